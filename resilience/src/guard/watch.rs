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
    answer: Answer,
    asked: Asked<P>,
    /// Of the last start.
    pub(super) context: Context,
}

/// The policy, and what it remembers.
struct Asked<P: Policy> {
    policy: Arc<P>,
    leave: P::Leave,
}

impl<P: Policy> Drop for Asked<P> {
    /// By now the end has been told. But code of others may have panicked
    /// before, a classifier or a recorder of metrics.
    #[inline]
    fn drop(&mut self) {
        self.policy.let_go(&mut self.leave);
    }
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
            answer: Answer::None,
            asked: Asked {
                policy: Arc::clone(policy),
                leave: P::Leave::default(),
            },
            context,
        }
    }

    /// Asks the policy. True: `request` may be sent at once.
    #[inline]
    pub(super) fn admit(&mut self, request: &mut Request<Body>, context: Context) -> bool {
        debug_assert!(!self.is_admitted(), "it begins anew when it is over");
        self.context = context;
        let (Asked { policy, leave }, context) = (&mut self.asked, &mut self.context);
        self.answer = match policy.admit(leave, context, request) {
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
            let (Asked { policy, leave }, context) = (&mut self.asked, &mut self.context);
            admitted = ready!(policy.poll_admit(leave, context, request, turn));
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
        self.asked.policy.span(&self.asked.leave).map(Span::enter)
    }

    #[inline]
    pub(super) fn head(&mut self, extensions: &Extensions) {
        self.asked.policy.head(&mut self.asked.leave, extensions);
    }

    #[inline]
    pub(super) fn message(&mut self) {
        self.asked
            .policy
            .message(&mut self.asked.leave, &self.context);
    }

    #[inline]
    pub(super) fn expires(&self) -> Option<Instant> {
        if self.is_admitted() {
            self.asked.policy.expires(&self.asked.leave, &self.context)
        } else {
            None
        }
    }

    #[cold]
    pub(super) fn expired(&self) -> Status {
        self.asked.policy.expired(&self.asked.leave, &self.context)
    }

    #[cold]
    pub(super) fn translate(&self, status: Status) -> Status {
        if self.is_admitted() {
            self.asked
                .policy
                .translate(&self.asked.leave, &self.context, status)
        } else {
            status
        }
    }

    /// It is over, if it was not before.
    #[inline]
    pub(super) fn end(&mut self, end: End<'_>, now: impl FnOnce() -> Instant) {
        let Asked { policy, leave } = &mut self.asked;
        match mem::replace(&mut self.answer, Answer::None) {
            Answer::Admitted => {
                let over = Over::at(now(), &self.context);
                policy.ended(leave, &self.context, end, over);
            }
            Answer::Wait(_) => policy.let_go(leave),
            Answer::None | Answer::Refused(_) => {}
        }
    }

    /// Nobody waits for the end any more, if there was none before. Nothing is
    /// remembered of it.
    #[inline]
    pub(super) fn stop(&mut self) {
        self.end(End::Dropped, Instant::now);
        let Asked { policy, leave } = &mut self.asked;
        policy.let_go(leave);
        *leave = P::Leave::default();
    }
}

impl<P: Policy> Drop for Watch<P> {
    /// Nobody waited for the end.
    fn drop(&mut self) {
        self.end(End::Dropped, Instant::now);
    }
}
