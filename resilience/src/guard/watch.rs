//! A policy, and what it remembers of one attempt, or one call.

use std::{
    mem,
    sync::Arc,
    task::{Poll, ready},
};

use http::{Extensions, Request};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tracing::{Span, span::Entered};

use super::{Admission, End, Over, Policy};
use crate::{context::Context, exchange::Turn};

/// Sees to it that the policy is told exactly once, whatever happens.
pub(super) struct Watch<P: Policy> {
    policy: Arc<P>,
    answer: Answer,
    leave: P::Leave,
    /// Of the last start.
    pub(super) context: Context,
}

/// What the policy has answered.
enum Answer {
    /// Nothing: it has not been asked, or it has been told the end.
    None,
    Admitted,
    /// Boxed, as hardly any waits.
    Wait(Option<Box<Request<Body>>>),
    Refused(Status),
}

impl<P: Policy> Watch<P> {
    pub(super) fn new(policy: &Arc<P>, context: Context) -> Self {
        Self {
            policy: Arc::clone(policy),
            answer: Answer::None,
            leave: P::Leave::default(),
            context,
        }
    }

    /// Asks the policy. True: `request` may be sent at once.
    #[inline]
    pub(super) fn admit(&mut self, request: &mut Request<Body>, context: Context) -> bool {
        self.context = context;
        let context = &mut self.context;
        self.answer = match self.policy.admit(&mut self.leave, context, request) {
            Admission::Admitted => Answer::Admitted,
            Admission::Wait => Answer::Wait(None),
            Admission::Refused(status) => Answer::Refused(status),
        };
        self.is_admitted()
    }

    /// Keeps `request` until it may be sent, if that may still be.
    #[cold]
    pub(super) fn keep(&mut self, request: Request<Body>) {
        if let Answer::Wait(kept) = &mut self.answer {
            *kept = Some(Box::new(request));
        }
    }

    #[inline]
    pub(super) fn is_admitted(&self) -> bool {
        matches!(self.answer, Answer::Admitted)
    }

    /// Asks again. The request comes back if it may be sent.
    pub(super) fn poll_admit(
        &mut self,
        turn: &mut Turn<'_, '_>,
    ) -> Poll<Result<Request<Body>, Status>> {
        let mut admitted = Ok(());
        if let Answer::Wait(Some(request)) = &mut self.answer {
            let (leave, context) = (&mut self.leave, &mut self.context);
            admitted = ready!(self.policy.poll_admit(leave, context, request, turn));
        }
        match (mem::replace(&mut self.answer, Answer::None), admitted) {
            (Answer::Wait(Some(request)), Ok(())) => {
                self.answer = Answer::Admitted;
                Poll::Ready(Ok(*request))
            }
            (Answer::Refused(status), _) | (_, Err(status)) => Poll::Ready(Err(status)),
            // Polled after it was done: there is nothing more to come.
            _ => Poll::Pending,
        }
    }

    /// Within the span of the policy, if it has one.
    #[inline]
    pub(super) fn entered(&self) -> Option<Entered<'_>> {
        self.policy.span(&self.leave).map(Span::enter)
    }

    #[inline]
    pub(super) fn head(&mut self, extensions: &Extensions) {
        self.policy.head(&mut self.leave, extensions);
    }

    #[inline]
    pub(super) fn message(&mut self) {
        self.policy.message(&mut self.leave, &self.context);
    }

    #[inline]
    pub(super) fn expires(&self) -> Option<Instant> {
        if self.is_admitted() {
            self.policy.expires(&self.leave, &self.context)
        } else {
            None
        }
    }

    #[cold]
    pub(super) fn expired(&self) -> Status {
        self.policy.expired(&self.leave, &self.context)
    }

    #[cold]
    pub(super) fn translate(&self, status: Status) -> Status {
        if self.is_admitted() {
            self.policy.translate(&self.leave, &self.context, status)
        } else {
            status
        }
    }

    /// It is over, if it was not before.
    #[inline]
    pub(super) fn end(&mut self, end: End<'_>, now: impl FnOnce() -> Instant) {
        match mem::replace(&mut self.answer, Answer::None) {
            Answer::Admitted => {
                let over = Over::at(now(), &self.context);
                self.policy.ended(&mut self.leave, &self.context, end, over);
            }
            Answer::Wait(_) => self.leave = P::Leave::default(),
            Answer::None | Answer::Refused(_) => {}
        }
    }
}

impl<P: Policy> Drop for Watch<P> {
    /// Nobody waited for the end.
    fn drop(&mut self) {
        self.end(End::Dropped, Instant::now);
    }
}
