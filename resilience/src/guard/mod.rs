//! What all policies have in common: to ask at the start, and to follow to the
//! end.
//!
//! A [`Policy`] is asked when an attempt, or a call, begins. It refuses, or it
//! gives a [`Guard`], which rides along, first in the future and then in the
//! body, until the end, of which it is told exactly once. A response head says
//! little: the status is in the trailers, and a body can hang, break or be
//! dropped long after the head.
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

use std::task::{Context as TaskContext, Poll};

use http::{Extensions, Request};
use tokio::time::Instant;
use tonic::Status;

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

/// Is asked when an attempt, or a call, begins.
pub trait Policy {
    /// Follows one attempt, or one call.
    type Guard: Guard;
    /// Waits for leave, where that cannot be given at once.
    type Wait;

    /// Asks for leave. The policy may change what is known of the call, and
    /// the headers of the request.
    fn admit<R>(
        &self,
        context: &mut Context,
        request: &mut Request<R>,
    ) -> Admission<Self::Guard, Self::Wait>;

    /// Asks again, after [`Admission::Wait`].
    fn poll_admit<R>(
        &self,
        wait: &mut Self::Wait,
        context: &mut Context,
        request: &mut Request<R>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<Self::Guard, Status>>;
}

/// The answer of a policy.
#[derive(Debug)]
pub enum Admission<G, W> {
    /// Go on.
    Admitted(G),
    /// Not yet.
    Wait(W),
    /// No; nothing is sent.
    Refused(Status),
}

/// The wait of a policy that never waits.
#[derive(Debug)]
pub enum Never {}

/// Follows an attempt, or a call, to its end.
pub trait Guard {
    /// The response head has arrived, and what came with it.
    fn head(&mut self, _extensions: &Extensions) {}

    /// A message has arrived; told for each.
    fn message(&mut self) {}

    /// When it must be over, whatever happens.
    fn expires(&self) -> Option<Instant> {
        None
    }

    /// The status of what was not over by then.
    fn expired(&self) -> Status {
        Status::deadline_exceeded("time is up")
    }

    /// What `status`, which came from below, really says.
    fn translate(&self, status: Status) -> Status {
        status
    }

    /// It is over, at `at`.
    fn ended(self, end: End<'_>, at: Instant);
}

/// Holds a guard, and tells it that nobody waited when it is dropped.
#[derive(Debug)]
struct Armed<G: Guard>(Option<G>);

impl<G: Guard> Armed<G> {
    fn end(&mut self, end: End<'_>) {
        if let Some(guard) = self.0.take() {
            guard.ended(end, Instant::now());
        }
    }
}

impl<G: Guard> Drop for Armed<G> {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}
