//! The exchange of one call: its attempts, and the waits between them.

use std::{
    fmt,
    future::Future as _,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use http::{Request, response::Parts};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body};

use super::{
    Shared,
    call::{Call, Next},
    commit::Committed,
    replay::Replay,
};
use crate::{
    context::Context,
    edge::TransportError,
    exchange::{Exchange, Turn},
};

pin_project! {
    /// An exchange that begins anew until a response is final.
    pub struct RetryExchange<X> {
        #[pin]
        inner: X,
        phase: Phase,
        shared: Arc<Shared>,
    }
}

#[expect(clippy::large_enum_variant)] // stays where it is
enum Phase {
    /// No response is final yet.
    Trying {
        call: Call,
        /// Of a response that is held back.
        head: Option<Parts>,
        /// The wait before the next attempt. Boxed, as few calls wait.
        backoff: Option<Pin<Box<Sleep>>>,
    },
    /// The caller has been given one.
    Final {
        /// What was read to know that it is final.
        first: Option<Frame<Bytes>>,
        /// `None` once it is over.
        committed: Option<Committed>,
    },
    /// Its request cannot be made: nothing is sent.
    Unsendable(Status),
    /// Not begun, or failed.
    Idle,
}

impl<X> RetryExchange<X> {
    pub(super) fn new(inner: X, shared: &Arc<Shared>) -> Self {
        Self {
            inner,
            phase: Phase::Idle,
            shared: Arc::clone(shared),
        }
    }
}

impl<X: Exchange> Exchange for RetryExchange<X> {
    #[inline]
    fn start(self: Pin<&mut Self>, mut request: Request<Body>, mut context: Context) {
        let this = self.project();
        match Replay::of(&mut request, this.shared.config.replay_bytes_max) {
            Ok(replay) => {
                *this.phase = Phase::Trying {
                    call: Call::of(&request, replay, &mut context, this.shared),
                    head: None,
                    backoff: None,
                };
                this.inner.start(request, context);
            }
            Err(status) => *this.phase = Phase::Unsendable(TransportError::not_sent(status)),
        }
    }

    fn poll_head(self: Pin<&mut Self>, turn: &mut Turn<'_, '_>) -> Poll<Result<Parts, Status>> {
        let this = self.project();
        let (mut inner, shared) = (this.inner, &**this.shared);
        let Phase::Trying {
            call,
            head: held,
            backoff,
        } = this.phase
        else {
            return match mem::replace(this.phase, Phase::Idle) {
                Phase::Unsendable(status) => Poll::Ready(Err(status)),
                // Polled after it was done: there is nothing more to come.
                _ => Poll::Pending,
            };
        };
        // Every turn either returns or moves on; attempts are bounded.
        let status = loop {
            let failed = if let Some(sleep) = backoff {
                ready!(sleep.as_mut().poll(turn.cx));
                *backoff = None;
                match call.after_wait(turn.now(), shared) {
                    Ok(request) => {
                        inner.as_mut().start(request, call.begin(turn.now()));
                        continue;
                    }
                    Err(status) => break status,
                }
            } else if held.is_none() {
                match ready!(inner.as_mut().poll_head(turn)) {
                    Ok(head) if call.may_hold(shared) && !inner.is_end_stream() => {
                        // Its first message, or its end, will decide.
                        *held = Some(head);
                        continue;
                    }
                    Ok(mut head) => {
                        let committed = call.commit(&mut head.extensions);
                        *this.phase = Phase::of_final(None, committed);
                        // A body that is over at once may never be polled.
                        if inner.is_end_stream() {
                            this.phase.settle(Ok(()), shared);
                        }
                        return Poll::Ready(Ok(head));
                    }
                    Err(status) => status,
                }
            } else {
                let frame = ready!(inner.as_mut().poll_frame(turn));
                let Some(mut head) = held.take() else {
                    return Poll::Pending;
                };
                match frame {
                    Some(Err(status)) => status,
                    first => {
                        let committed = call.commit(&mut head.extensions);
                        *this.phase = Phase::of_final(first.and_then(Result::ok), committed);
                        return Poll::Ready(Ok(head));
                    }
                }
            };
            match call.failed(failed, turn.now(), shared) {
                Next::Send(request) => inner.as_mut().start(request, call.begin(turn.now())),
                Next::Wait(delay) => *backoff = Some(Box::pin(sleep(delay))),
                Next::Finish(status) => break status,
            }
        };
        *this.phase = Phase::Idle;
        Poll::Ready(Err(status))
    }

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        turn: &mut Turn<'_, '_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let first = match this.phase {
            Phase::Final { first, .. } => first.take(),
            _ => None,
        };
        let frame = match first {
            Some(first) => Some(Ok(first)),
            None => ready!(this.inner.poll_frame(turn)),
        };
        match &frame {
            Some(Ok(frame)) if frame.is_data() => {}
            Some(Ok(_)) | None => this.phase.settle(Ok(()), this.shared),
            Some(Err(status)) => this.phase.settle(Err(status), this.shared),
        }
        Poll::Ready(frame)
    }

    fn stop(self: Pin<&mut Self>) {
        let this = self.project();
        this.inner.stop();
        *this.phase = Phase::Idle;
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        !self.phase.has_first() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Of the rest; the first frame may add to it.
        if self.phase.has_first() {
            SizeHint::default()
        } else {
            self.inner.size_hint()
        }
    }
}

impl Phase {
    fn of_final(first: Option<Frame<Bytes>>, committed: Committed) -> Self {
        Self::Final {
            first,
            committed: Some(committed),
        }
    }

    fn has_first(&self) -> bool {
        matches!(self, Self::Final { first: Some(_), .. })
    }

    /// The response that the caller was given is over.
    #[inline]
    fn settle(&mut self, end: Result<(), &Status>, shared: &Shared) {
        if let Self::Final { committed, .. } = self
            && let Some(committed) = committed.take()
        {
            match end {
                Ok(()) => committed.succeeded(shared),
                Err(status) => committed.failed(status, shared),
            }
        }
    }
}

impl<X: fmt::Debug> fmt::Debug for RetryExchange<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryExchange")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
