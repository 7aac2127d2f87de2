//! Two policies, one inside the other, as one.

use std::task::{Poll, ready};

use http::{Extensions, Request};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tracing::Span;

use super::{Admission, End, Over, Policy};
use crate::{context::Context, exchange::Turn};

/// `outer` is asked first, and told last. Only the outermost policy of all may
/// wait: nothing is held while it does.
#[derive(Debug)]
pub(crate) struct Pair<A, B> {
    pub(crate) outer: A,
    pub(crate) inner: B,
}

impl<A: Policy, B: Policy> Pair<A, B> {
    const ONLY_THE_OUTERMOST_WAITS: () = assert!(!B::WAITS);

    /// `outer` has given leave: now `inner`.
    #[inline]
    fn admit_inner(
        &self,
        leave: &mut (A::Leave, B::Leave),
        context: &mut Context,
        request: &mut Request<Body>,
    ) -> Admission {
        const { Self::ONLY_THE_OUTERMOST_WAITS };
        let answer = self.inner.admit(&mut leave.1, context, request);
        if let Admission::Refused(status) = &answer {
            // It was over when it began.
            let over = Over::at(context.started, context);
            self.outer
                .ended(&mut leave.0, context, End::Failed(status), over);
        }
        answer
    }
}

impl<A: Policy, B: Policy> Policy for Pair<A, B> {
    type Leave = (A::Leave, B::Leave);

    const WAITS: bool = A::WAITS;

    #[inline]
    fn admit(
        &self,
        leave: &mut Self::Leave,
        context: &mut Context,
        request: &mut Request<Body>,
    ) -> Admission {
        match self.outer.admit(&mut leave.0, context, request) {
            Admission::Admitted => self.admit_inner(leave, context, request),
            not_yet => not_yet,
        }
    }

    fn poll_admit(
        &self,
        leave: &mut Self::Leave,
        context: &mut Context,
        request: &mut Request<Body>,
        turn: &mut Turn<'_, '_>,
    ) -> Poll<Result<(), Status>> {
        ready!(self.outer.poll_admit(&mut leave.0, context, request, turn))?;
        Poll::Ready(match self.admit_inner(leave, context, request) {
            Admission::Refused(status) => Err(status),
            Admission::Admitted | Admission::Wait => Ok(()),
        })
    }

    #[inline]
    fn span<'a>(&self, (outer, inner): &'a Self::Leave) -> Option<&'a Span> {
        self.outer.span(outer).or_else(|| self.inner.span(inner))
    }

    #[inline]
    fn head(&self, (outer, inner): &mut Self::Leave, extensions: &Extensions) {
        self.inner.head(inner, extensions);
        self.outer.head(outer, extensions);
    }

    #[inline]
    fn message(&self, (outer, inner): &mut Self::Leave, context: &Context) {
        self.inner.message(inner, context);
        self.outer.message(outer, context);
    }

    #[inline]
    fn expires(&self, (outer, inner): &Self::Leave, context: &Context) -> Option<Instant> {
        let outer = self.outer.expires(outer, context);
        let inner = self.inner.expires(inner, context);
        match (outer, inner) {
            (Some(outer), Some(inner)) => Some(outer.min(inner)),
            (outer, inner) => outer.or(inner),
        }
    }

    fn expired(&self, (outer, inner): &Self::Leave, context: &Context) -> Status {
        let first = self.outer.expires(outer, context);
        let second = self.inner.expires(inner, context);
        match (first, second) {
            (Some(first), Some(second)) if first < second => self.outer.expired(outer, context),
            (Some(_), None) => self.outer.expired(outer, context),
            _ => self.inner.expired(inner, context),
        }
    }

    fn translate(&self, (outer, inner): &Self::Leave, context: &Context, status: Status) -> Status {
        let status = self.inner.translate(inner, context, status);
        self.outer.translate(outer, context, status)
    }

    #[inline]
    fn ended(&self, (outer, inner): &mut Self::Leave, context: &Context, end: End<'_>, over: Over) {
        self.inner.ended(inner, context, end, over);
        self.outer.ended(outer, context, end, over);
    }

    #[inline]
    fn let_go(&self, (outer, inner): &mut Self::Leave) {
        self.inner.let_go(inner);
        self.outer.let_go(outer);
    }
}
