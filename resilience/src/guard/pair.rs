//! Two policies, one inside the other, as one.

use std::task::{Context as TaskContext, Poll, ready};

use http::{Extensions, Request};
use tokio::time::Instant;
use tonic::Status;
use tracing::Span;

use super::{Admission, End, Never, Over, Policy};
use crate::context::Context;

/// `outer` is asked first, and told last. Only the outermost policy of all may
/// wait: nothing is held while it does.
#[derive(Debug)]
pub struct Pair<A, B> {
    pub(crate) outer: A,
    pub(crate) inner: B,
}

impl<A, B> Pair<A, B>
where
    A: Policy,
    B: Policy<Wait = Never>,
{
    /// `outer` has given leave: now `inner`.
    #[inline]
    fn admit_inner<R>(
        &self,
        outer: A::Leave,
        context: &mut Context,
        request: &mut Request<R>,
    ) -> Result<(A::Leave, B::Leave), Status> {
        match self.inner.admit(context, request) {
            Admission::Admitted(inner) => Ok((outer, inner)),
            Admission::Refused(status) => {
                let at = Instant::now();
                let took = at.saturating_duration_since(context.started);
                let end = End::Failed(&status);
                self.outer.ended(outer, context, end, Over { at, took });
                Err(status)
            }
            Admission::Wait(never) => match never {},
        }
    }
}

impl<A, B> Policy for Pair<A, B>
where
    A: Policy,
    B: Policy<Wait = Never>,
{
    type Leave = (A::Leave, B::Leave);
    type Wait = A::Wait;

    #[inline]
    fn admit<R>(
        &self,
        context: &mut Context,
        request: &mut Request<R>,
    ) -> Admission<Self::Leave, Self::Wait> {
        match self.outer.admit(context, request) {
            Admission::Admitted(outer) => match self.admit_inner(outer, context, request) {
                Ok(leave) => Admission::Admitted(leave),
                Err(status) => Admission::Refused(status),
            },
            Admission::Wait(wait) => Admission::Wait(wait),
            Admission::Refused(status) => Admission::Refused(status),
        }
    }

    fn poll_admit<R>(
        &self,
        wait: &mut Self::Wait,
        context: &mut Context,
        request: &mut Request<R>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<Self::Leave, Status>> {
        let outer = ready!(self.outer.poll_admit(wait, context, request, cx))?;
        Poll::Ready(self.admit_inner(outer, context, request))
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
    fn ended(&self, (outer, inner): Self::Leave, context: &Context, end: End<'_>, over: Over) {
        self.inner.ended(inner, context, end, over);
        self.outer.ended(outer, context, end, over);
    }
}
