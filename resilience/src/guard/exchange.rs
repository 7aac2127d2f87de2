//! The exchange that a policy watches over.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use http::{Request, response::Parts};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};

use super::{End, Policy, timer::Timer, watch::Watch};
use crate::{
    context::Context,
    exchange::{Exchange, Turn},
};

pin_project! {
    /// An exchange that a policy gives leave to, watches over, and is told the
    /// end of, whatever becomes of it.
    pub struct GuardedExchange<X, P: Policy, T> {
        // First, so that it is dropped first: the inner policies are told first.
        #[pin]
        inner: X,
        watch: Watch<P>,
        // Fires when time is up.
        #[pin]
        timer: T,
        // Whether a message has come.
        begun: bool,
    }
}

impl<X, P: Policy, T: Timer> GuardedExchange<X, P, T> {
    pub(crate) fn new(inner: X, policy: &Arc<P>, context: Context) -> Self {
        Self {
            inner,
            watch: Watch::new(policy, context),
            timer: T::default(),
            begun: false,
        }
    }
}

impl<X: Exchange, P: Policy, T: Timer> GuardedExchange<X, P, T> {
    /// There is leave.
    #[inline]
    fn send(self: Pin<&mut Self>, request: Request<Body>) {
        let this = self.project();
        *this.begun = false;
        let _entered = this.watch.entered();
        this.inner.start(request, this.watch.context);
    }

    /// Waits for leave that was not given at once.
    #[cold]
    fn poll_admitted(
        mut self: Pin<&mut Self>,
        turn: &mut Turn<'_, '_>,
    ) -> Poll<Result<(), Status>> {
        let request = ready!(self.as_mut().project().watch.poll_admit(turn))?;
        self.send(request);
        Poll::Ready(Ok(()))
    }

    /// There is nothing yet. Ready with the status to end with when time is up.
    fn poll_expired(self: Pin<&mut Self>, turn: &mut Turn<'_, '_>) -> Poll<Status> {
        let this = self.project();
        let Some(expires) = this.watch.expires() else {
            return Poll::Pending;
        };
        let since = this.watch.context.started;
        ready!(this.timer.poll(expires, since, turn.cx));
        Poll::Ready(this.watch.expired())
    }

    /// A message has come. The status to end with, if time is up.
    #[inline]
    fn message(self: Pin<&mut Self>, turn: &mut Turn<'_, '_>) -> Option<Status> {
        let this = self.project();
        this.watch.message();
        // The first counts, even when time is up as well. After that, a stream
        // that never pauses, or never does for its reader, would never let the
        // timer be asked.
        if !mem::replace(this.begun, true) {
            return None;
        }
        (turn.now() >= this.watch.expires()?).then(|| this.watch.expired())
    }

    /// It has failed; what is left of it is not awaited.
    #[cold]
    fn fail(self: Pin<&mut Self>, status: Status, turn: &mut Turn<'_, '_>) -> Status {
        let this = self.project();
        this.inner.stop();
        this.watch.end(End::Failed(&status), || turn.now());
        status
    }

    /// It has failed below.
    #[cold]
    fn fail_below(self: Pin<&mut Self>, status: Status, turn: &mut Turn<'_, '_>) -> Status {
        let status = self.watch.translate(status);
        self.fail(status, turn)
    }
}

impl<X: Exchange, P: Policy, T: Timer> Exchange for GuardedExchange<X, P, T> {
    #[inline]
    fn start(mut self: Pin<&mut Self>, mut request: Request<Body>, context: Context) {
        let watch = self.as_mut().project().watch;
        if watch.admit(&mut request, context) {
            self.send(request);
        } else {
            watch.keep(request);
        }
    }

    #[inline]
    fn poll_head(mut self: Pin<&mut Self>, turn: &mut Turn<'_, '_>) -> Poll<Result<Parts, Status>> {
        if !self.watch.is_admitted() {
            ready!(self.as_mut().poll_admitted(turn))?;
        }
        let mut this = self.as_mut().project();
        let polled = {
            let _entered = this.watch.entered();
            this.inner.as_mut().poll_head(turn)
        };
        // An answer that is there counts, even when time is up as well.
        match polled {
            Poll::Ready(Ok(head)) => {
                this.watch.head(&head.extensions);
                // A body that is over at once may never be polled.
                if this.inner.is_end_stream() {
                    this.watch.end(End::Ok, || turn.now());
                }
                Poll::Ready(Ok(head))
            }
            Poll::Ready(Err(status)) => Poll::Ready(Err(self.fail_below(status, turn))),
            Poll::Pending => {
                let status = ready!(self.as_mut().poll_expired(turn));
                Poll::Ready(Err(self.fail(status, turn)))
            }
        }
    }

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        turn: &mut Turn<'_, '_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.as_mut().project();
        let polled = this.inner.poll_frame(turn);
        match &polled {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                if let Some(status) = self.as_mut().message(turn) {
                    return Poll::Ready(Some(Err(self.fail(status, turn))));
                }
            }
            // The edge lets trailers through only when they say OK, and turns
            // a missing status into an error: see `edge`.
            Poll::Ready(Some(Ok(_)) | None) => this.watch.end(End::Ok, || turn.now()),
            Poll::Ready(Some(Err(_))) => {}
            Poll::Pending => {
                let status = ready!(self.as_mut().poll_expired(turn));
                return Poll::Ready(Some(Err(self.fail(status, turn))));
            }
        }
        match polled {
            Poll::Ready(Some(Err(status))) => Poll::Ready(Some(Err(self.fail_below(status, turn)))),
            polled => polled,
        }
    }

    fn stop(self: Pin<&mut Self>) {
        let this = self.project();
        this.inner.stop();
        this.watch.stop();
        this.timer.rest();
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<X: fmt::Debug, P: Policy, T> fmt::Debug for GuardedExchange<X, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedExchange")
            .field("inner", &self.inner)
            .field("context", &self.watch.context)
            .finish_non_exhaustive()
    }
}
