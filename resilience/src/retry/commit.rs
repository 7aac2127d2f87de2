//! A response that the caller has been given.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::{
    Shared,
    budget::{Withdrawal, settle},
    decision::{Decision, Failed, decide},
};
use crate::{rejection::Rejection, upstream::MethodIndex};

/// Settles with the budget when the response that the caller got is over. A
/// response that is dropped settles nothing: what was paid for it is spent.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) shared: Arc<Shared>,
    pub(super) method: MethodIndex,
    pub(super) withdrawal: Option<Withdrawal>,
    pub(super) retried: bool,
}

impl Committed {
    fn succeeded(self) {
        settle(&*self.shared.budget, self.withdrawal, self.retried);
    }

    fn failed(self, status: &Status) {
        let upstream = &self.shared.upstream;
        if upstream.is_answer(status) {
            return self.succeeded();
        }
        if Rejection::of(status).is_some() {
            return;
        }
        let policy = upstream.policy(self.method);
        let failed = Failed {
            status,
            rule: upstream.retry_rule(status),
            attempts: 1,
            max_attempts: policy.max_attempts,
            transparent_used: false,
            idempotent: policy.idempotent,
            committed: true,
            once: None,
            remaining: None,
        };
        if let Decision::Stop(reason) = decide(&failed, || Duration::ZERO) {
            self.shared.stopped.count(reason);
        }
    }
}

/// The response body of a call that may have been retried: its first frame,
/// which has been read already, and the rest.
#[derive(Debug)]
pub struct RetryBody<B> {
    first: Option<Frame<Bytes>>,
    rest: B,
    committed: Option<Committed>,
}

impl<B> RetryBody<B> {
    pub(super) fn new(first: Option<Frame<Bytes>>, rest: B, committed: Committed) -> Self
    where
        B: Body<Data = Bytes, Error = Status>,
    {
        // A body that is over at once may never be polled.
        let over = first.is_none() && rest.is_end_stream();
        let mut body = Self {
            first,
            rest,
            committed: Some(committed),
        };
        if over {
            body.succeeded();
        }
        body
    }

    fn succeeded(&mut self) {
        if let Some(committed) = self.committed.take() {
            committed.succeeded();
        }
    }
}

impl<B: Default> Default for RetryBody<B> {
    fn default() -> Self {
        Self {
            first: None,
            rest: B::default(),
            committed: None,
        }
    }
}

impl<B> Body for RetryBody<B>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = match this.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(Pin::new(&mut this.rest).poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) if frame.is_data() => {}
            Some(Ok(_)) | None => this.succeeded(),
            Some(Err(status)) => {
                if let Some(committed) = this.committed.take() {
                    committed.failed(status);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Of the rest; the first frame may add to it.
        let rest = self.rest.size_hint();
        if self.first.is_none() {
            rest
        } else {
            SizeHint::default()
        }
    }
}
