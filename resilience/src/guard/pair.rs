//! Two policies, one inside the other, as one.

use std::task::{Context as TaskContext, Poll, ready};

use http::{Extensions, Request};
use tokio::time::Instant;
use tonic::Status;

use super::{Admission, End, Guard, Never, Policy};
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
    fn admit_inner<R>(
        &self,
        outer: A::Guard,
        context: &mut Context,
        request: &mut Request<R>,
    ) -> Result<PairGuard<A::Guard, B::Guard>, Status> {
        match self.inner.admit(context, request) {
            Admission::Admitted(inner) => Ok(PairGuard { outer, inner }),
            Admission::Refused(status) => {
                outer.ended(End::Failed(&status), context.started);
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
    type Guard = PairGuard<A::Guard, B::Guard>;
    type Wait = A::Wait;

    fn admit<R>(
        &self,
        context: &mut Context,
        request: &mut Request<R>,
    ) -> Admission<Self::Guard, Self::Wait> {
        match self.outer.admit(context, request) {
            Admission::Admitted(outer) => match self.admit_inner(outer, context, request) {
                Ok(guard) => Admission::Admitted(guard),
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
    ) -> Poll<Result<Self::Guard, Status>> {
        let outer = ready!(self.outer.poll_admit(wait, context, request, cx))?;
        Poll::Ready(self.admit_inner(outer, context, request))
    }
}

/// Follows for both.
#[derive(Debug)]
pub struct PairGuard<A, B> {
    outer: A,
    inner: B,
}

impl<A: Guard, B: Guard> Guard for PairGuard<A, B> {
    fn head(&mut self, extensions: &Extensions) {
        self.inner.head(extensions);
        self.outer.head(extensions);
    }

    fn message(&mut self) {
        self.inner.message();
        self.outer.message();
    }

    fn expires(&self) -> Option<Instant> {
        match (self.outer.expires(), self.inner.expires()) {
            (Some(outer), Some(inner)) => Some(outer.min(inner)),
            (outer, inner) => outer.or(inner),
        }
    }

    fn expired(&self) -> Status {
        match (self.outer.expires(), self.inner.expires()) {
            (Some(outer), Some(inner)) if outer < inner => self.outer.expired(),
            (Some(_), None) => self.outer.expired(),
            _ => self.inner.expired(),
        }
    }

    fn translate(&self, status: Status) -> Status {
        self.outer.translate(self.inner.translate(status))
    }

    fn ended(self, end: End<'_>, at: Instant) {
        self.inner.ended(end, at);
        self.outer.ended(end, at);
    }
}
