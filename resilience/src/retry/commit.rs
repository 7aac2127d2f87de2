//! A response that the caller has been given.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;

use super::{
    Shared,
    budget::Withdrawal,
    decision::{Decision, Failed, decide},
};
use crate::{
    classify,
    rejection::Rejection,
    watch::{End, Watch, WatchedBody},
};

/// Settles with the budget when the response that the caller got is over.
#[derive(Debug)]
pub struct Committed {
    pub(super) shared: Arc<Shared>,
    pub(super) withdrawal: Option<Withdrawal>,
    pub(super) retried: bool,
    pub(super) idempotent: bool,
}

impl Watch for Committed {
    fn ended(self, end: End<'_>) {
        match end {
            End::Ok => self.shared.budget.settle(self.withdrawal, self.retried),
            End::Failed(status) if classify::is_answer(status) => {
                self.shared.budget.settle(self.withdrawal, self.retried);
            }
            End::Failed(status) if Rejection::of(status).is_none() => {
                let failed = Failed {
                    status,
                    attempts: 1,
                    max_attempts: self.shared.config.max_attempts,
                    transparent_used: false,
                    idempotent: self.idempotent,
                    committed: true,
                    once: None,
                    remaining: None,
                };
                if let Decision::Stop(reason) = decide(&failed, || Duration::ZERO) {
                    self.shared.stopped.count(reason);
                }
            }
            End::Failed(_) | End::Dropped => {}
        }
    }
}

/// The response body of a call that may have been retried.
pub(crate) type RetryBody<B> = WatchedBody<Resumed<B>, Committed>;

/// A body whose first frame has been read already.
#[derive(Debug, Default)]
pub struct Resumed<B> {
    pub(super) first: Option<Frame<Bytes>>,
    pub(super) body: B,
}

impl<B> HttpBody for Resumed<B>
where
    B: HttpBody<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut this.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Of the rest; the first frame may add to it.
        let rest = self.body.size_hint();
        if self.first.is_none() {
            rest
        } else {
            SizeHint::default()
        }
    }
}
