//! The response body that a guard rides in.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::{Armed, End, Guard};

/// A response body that is followed to its end.
#[derive(Debug)]
pub struct GuardedBody<B, G: Guard> {
    /// `None` once time was up: dropping it resets the stream.
    body: Option<B>,
    guard: Armed<G>,
    /// Fires when time is up; set at the first wait.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Frames that came without a pause.
    unbroken: u32,
}

impl<B, G> GuardedBody<B, G>
where
    B: Body<Data = Bytes, Error = Status>,
    G: Guard,
{
    pub(super) fn armed(body: B, mut guard: Armed<G>) -> Self {
        // A body that is over at once may never be polled.
        if body.is_end_stream() {
            guard.end(End::Ok);
        }
        Self {
            body: Some(body),
            guard,
            sleep: None,
            unbroken: 0,
        }
    }

    fn fail(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = None;
        self.guard.end(End::Failed(&status));
        Poll::Ready(Some(Err(status)))
    }

    fn data(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(guard) = &mut self.guard.0 else {
            return Poll::Ready(Some(Ok(frame)));
        };
        guard.message();
        // A stream that never pauses would never let the timer be asked. Only
        // now and then, for this reads the clock.
        const EVERY: u32 = 32;
        self.unbroken = (self.unbroken + 1) % EVERY;
        if self.unbroken == 0 && guard.expires().is_some_and(|at| Instant::now() >= at) {
            let status = guard.expired();
            return self.fail(status);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn wait(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.unbroken = 0;
        let Some(guard) = &self.guard.0 else {
            return Poll::Pending;
        };
        let Some(expires) = guard.expires() else {
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
        let status = guard.expired();
        self.fail(status)
    }
}

impl<B: Default, G: Guard> Default for GuardedBody<B, G> {
    fn default() -> Self {
        Self {
            body: Some(B::default()),
            guard: Armed(None),
            sleep: None,
            unbroken: 0,
        }
    }
}

// The body is `Unpin`, and nothing here needs a fixed place.
impl<B: Unpin, G: Guard> Unpin for GuardedBody<B, G> {}

impl<B, G> Body for GuardedBody<B, G>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
    G: Guard,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => this.data(frame),
            // The edge lets trailers through only when they say OK, and turns
            // a missing status into an error: see `edge`.
            Poll::Ready(Some(Ok(trailers))) => {
                this.guard.end(End::Ok);
                Poll::Ready(Some(Ok(trailers)))
            }
            Poll::Ready(None) => {
                this.guard.end(End::Ok);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(status))) => {
                let status = match &this.guard.0 {
                    Some(guard) => guard.translate(status),
                    None => status,
                };
                this.fail(status)
            }
            Poll::Pending => this.wait(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
