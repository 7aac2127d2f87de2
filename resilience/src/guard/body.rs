//! The response body that a guard rides in.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::{Admitted, End, Policy};

/// A response body that is followed to its end.
pub struct GuardedBody<B, P: Policy> {
    /// `None` once time was up: dropping it resets the stream.
    body: Option<B>,
    /// `None` of a body that never was: see `Default`.
    admitted: Option<Admitted<P>>,
    /// Fires when time is up; set at the first wait.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Frames that came without a pause.
    unbroken: u32,
}

impl<B, P> GuardedBody<B, P>
where
    B: Body<Data = Bytes, Error = Status>,
    P: Policy,
{
    #[inline]
    pub(super) fn new(body: B, mut admitted: Option<Admitted<P>>) -> Self {
        // A body that is over at once may never be polled.
        if body.is_end_stream()
            && let Some(admitted) = &mut admitted
        {
            admitted.end(End::Ok);
        }
        Self {
            body: Some(body),
            admitted,
            sleep: None,
            unbroken: 0,
        }
    }

    fn end(&mut self, end: End<'_>) {
        if let Some(admitted) = &mut self.admitted {
            admitted.end(end);
        }
    }

    /// It has failed; what is left of it is not awaited.
    #[cold]
    fn fail(&mut self, status: Status) -> Status {
        self.body = None;
        self.end(End::Failed(&status));
        status
    }

    /// A message has come. The status to end with, if time is up.
    #[inline]
    fn message(&mut self) -> Option<Status> {
        let admitted = self.admitted.as_mut()?;
        admitted.message();
        // A stream that never pauses would never let the timer be asked. Only
        // now and then, for this reads the clock.
        const EVERY: u32 = 32;
        self.unbroken = (self.unbroken + 1) % EVERY;
        if self.unbroken > 0 {
            return None;
        }
        let late = admitted.expires().is_some_and(|at| Instant::now() >= at);
        late.then(|| admitted.expired())
    }

    /// There is nothing yet. Ready with the status to end with when time is up.
    fn poll_expired(&mut self, cx: &mut TaskContext<'_>) -> Poll<Status> {
        self.unbroken = 0;
        let Some(admitted) = &self.admitted else {
            return Poll::Pending;
        };
        let Some(expires) = admitted.expires() else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(expires)));
        // A stream has another time to end once its first message is there.
        if sleep.deadline() != expires {
            sleep.as_mut().reset(expires);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(admitted.expired())
    }
}

impl<B: Default, P: Policy> Default for GuardedBody<B, P> {
    fn default() -> Self {
        Self {
            body: Some(B::default()),
            admitted: None,
            sleep: None,
            unbroken: 0,
        }
    }
}

// The body is `Unpin`, and nothing here needs a fixed place.
impl<B: Unpin, P: Policy> Unpin for GuardedBody<B, P> {}

impl<B, P> Body for GuardedBody<B, P>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
    P: Policy,
{
    type Data = Bytes;
    type Error = Status;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                if let Some(status) = this.message() {
                    return Poll::Ready(Some(Err(this.fail(status))));
                }
            }
            // The edge lets trailers through only when they say OK, and turns
            // a missing status into an error: see `edge`.
            Poll::Ready(Some(Ok(_)) | None) => this.end(End::Ok),
            Poll::Ready(Some(Err(_))) => {}
            Poll::Pending => {
                let status = ready!(this.poll_expired(cx));
                return Poll::Ready(Some(Err(this.fail(status))));
            }
        }
        match polled {
            Poll::Ready(Some(Err(status))) => {
                let status = match &this.admitted {
                    Some(admitted) => admitted.translate(status),
                    None => status,
                };
                Poll::Ready(Some(Err(this.fail(status))))
            }
            polled => polled,
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: fmt::Debug, P: Policy> fmt::Debug for GuardedBody<B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedBody")
            .field("body", &self.body)
            .field("admitted", &self.admitted)
            .finish_non_exhaustive()
    }
}
