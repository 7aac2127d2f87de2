//! What all policies have in common: to be asked at the start, and told at the
//! end.
//!
//! A [`Policy`] is asked when an attempt, or a call, begins. It refuses, or it
//! gives leave, and is told exactly once how that ended. A response head says
//! little about the end: the status is in the trailers, and a body can hang,
//! break or be dropped long after the head. So what a policy has to remember,
//! its [`Leave`](Policy::Leave), rides along, first in the future and then in
//! the body.
//!
//! One service does this for all policies. Two policies in a [`Pair`] are one
//! policy, so a stack of six costs one future, one body, one timer, and one
//! look at the clock at the end.
//!
//! | file | what |
//! | --- | --- |
//! | `service.rs` | the service, and its future |
//! | `body.rs` | the response body |
//! | `pair.rs` | two policies, one inside the other |

mod body;
mod pair;
mod service;

use std::{
    fmt,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{Extensions, Request};
use tokio::time::Instant;
use tonic::Status;
use tracing::Span;

pub(crate) use self::pair::Pair;
pub use self::{
    body::GuardedBody,
    service::{Guarded, GuardedFuture},
};
use crate::context::Context;

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// With status OK.
    Ok,
    /// With any other status, wherever it came from.
    Failed(&'a Status),
    /// Nobody waited for the end.
    Dropped,
}

/// Is asked when an attempt, or a call, begins, and told how it ended.
pub trait Policy {
    /// What it remembers of an attempt, or a call, that it let through.
    type Leave;
    /// What it remembers of one that must wait for leave.
    type Wait;

    /// Gives leave, or not. The policy may change what is known of the call,
    /// and the headers of the request.
    fn admit<R>(
        &self,
        context: &mut Context,
        request: &mut Request<R>,
    ) -> Admission<Self::Leave, Self::Wait>;

    /// Is asked again, after [`Admission::Wait`].
    fn poll_admit<R>(
        &self,
        wait: &mut Self::Wait,
        context: &mut Context,
        request: &mut Request<R>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<Self::Leave, Status>>;

    /// The span that everything below happens in.
    #[inline]
    fn span<'a>(&self, _leave: &'a Self::Leave) -> Option<&'a Span> {
        None
    }

    /// The response head has arrived, and what came with it.
    #[inline]
    fn head(&self, _leave: &mut Self::Leave, _extensions: &Extensions) {}

    /// A message has arrived; told for each.
    #[inline]
    fn message(&self, _leave: &mut Self::Leave, _context: &Context) {}

    /// When it must be over, whatever happens.
    #[inline]
    fn expires(&self, _leave: &Self::Leave, _context: &Context) -> Option<Instant> {
        None
    }

    /// The status of what was not over by then.
    fn expired(&self, _leave: &Self::Leave, _context: &Context) -> Status {
        Status::deadline_exceeded("time is up")
    }

    /// What `status`, which came from below, really says.
    fn translate(&self, _leave: &Self::Leave, _context: &Context, status: Status) -> Status {
        status
    }

    /// It is over.
    fn ended(&self, leave: Self::Leave, context: &Context, end: End<'_>, over: Over);
}

/// When something was over.
#[derive(Debug, Clone, Copy)]
pub struct Over {
    /// Now.
    pub at: Instant,
    /// Since the start.
    pub took: Duration,
}

/// The answer of a policy.
#[derive(Debug)]
pub enum Admission<L, W> {
    /// Go on.
    Admitted(L),
    /// Not yet.
    Wait(W),
    /// No; nothing is sent.
    Refused(Status),
}

/// The wait of a policy that never waits.
#[derive(Debug)]
pub enum Never {}

/// One attempt, or one call, that has leave. Whatever becomes of it, the policy
/// is told.
struct Admitted<P: Policy> {
    policy: Arc<P>,
    context: Context,
    /// `None` once it is over.
    leave: Option<P::Leave>,
}

impl<P: Policy> Admitted<P> {
    #[inline]
    fn end(&mut self, end: End<'_>) {
        if let Some(leave) = self.leave.take() {
            let at = Instant::now();
            let took = at.saturating_duration_since(self.context.started);
            self.policy
                .ended(leave, &self.context, end, Over { at, took });
        }
    }

    #[inline]
    fn span(&self) -> Option<&Span> {
        self.policy.span(self.leave.as_ref()?)
    }

    fn head(&mut self, extensions: &Extensions) {
        if let Some(leave) = &mut self.leave {
            self.policy.head(leave, extensions);
        }
    }

    fn message(&mut self) {
        if let Some(leave) = &mut self.leave {
            self.policy.message(leave, &self.context);
        }
    }

    fn expires(&self) -> Option<Instant> {
        self.policy.expires(self.leave.as_ref()?, &self.context)
    }

    fn expired(&self) -> Status {
        match &self.leave {
            Some(leave) => self.policy.expired(leave, &self.context),
            None => Status::deadline_exceeded("time is up"),
        }
    }

    fn translate(&self, status: Status) -> Status {
        match &self.leave {
            Some(leave) => self.policy.translate(leave, &self.context, status),
            None => status,
        }
    }
}

impl<P: Policy> Drop for Admitted<P> {
    /// Nobody waited for the end.
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

impl<P: Policy> fmt::Debug for Admitted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
