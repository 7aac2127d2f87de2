//! What all policies have in common: to be asked at the start, and told at the
//! end.
//!
//! A [`Policy`] is asked when an attempt, or a call, begins. It refuses, or it
//! gives leave, and is told exactly once how that ended. A response head says
//! little about the end: the status is in the trailers, and a body can hang,
//! break or be dropped long after the head. So what a policy has to remember,
//! its [`Leave`](Policy::Leave), is kept with the exchange until that is over.
//!
//! One exchange does this for all policies. Two policies in a [`Pair`] are one
//! policy, so a stack of six costs one state machine, one timer, and one look
//! at the clock at the end.
//!
//! | file | what |
//! | --- | --- |
//! | `exchange.rs` | the exchange that a policy watches over |
//! | `watch.rs` | the policy and what it remembers: told once, whatever happens |
//! | `timer.rs` | what wakes it when its time is up |
//! | `service.rs` | the same as a service, for who composes layers by hand |
//! | `pair.rs` | two policies, one inside the other |

mod exchange;
mod pair;
mod service;
mod timer;
mod watch;

use std::{task::Poll, time::Duration};

use http::{Extensions, Request};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tracing::Span;

pub use self::{exchange::GuardedExchange, service::Guarded, timer::OneTimer};
pub(crate) use self::{pair::Pair, timer::EndedBelow};
use crate::{context::Context, exchange::Turn};

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
    /// What it remembers of an attempt, or a call; the default is nothing.
    type Leave: Default;

    /// Whether it may answer [`Admission::Wait`].
    const WAITS: bool = false;

    /// Gives leave, or not. The policy may change what is known of the call,
    /// and the headers of the request.
    fn admit(
        &self,
        leave: &mut Self::Leave,
        context: &mut Context,
        request: &mut Request<Body>,
    ) -> Admission;

    /// Is asked again, after [`Admission::Wait`].
    fn poll_admit(
        &self,
        _leave: &mut Self::Leave,
        _context: &mut Context,
        _request: &mut Request<Body>,
        _turn: &mut Turn<'_, '_>,
    ) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

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

    /// It is over. What it held is let go.
    fn ended(&self, leave: &mut Self::Leave, context: &Context, end: End<'_>, over: Over);

    /// Lets go of what is still held, for a leave that does not do so by itself
    /// when it is dropped. Called when a wait is given up, and last of all in
    /// any case: nothing is held any more then, unless a panic came in between.
    #[inline]
    fn let_go(&self, _leave: &mut Self::Leave) {}
}

/// When something was over.
#[derive(Debug, Clone, Copy)]
pub struct Over {
    /// Now.
    pub at: Instant,
    /// Since the start.
    pub took: Duration,
}

impl Over {
    /// What began as `context` says was over at `at`.
    #[inline]
    fn at(at: Instant, context: &Context) -> Self {
        let took = at.saturating_duration_since(context.started);
        Self { at, took }
    }
}

/// The answer of a policy.
#[derive(Debug)]
pub enum Admission {
    /// Go on.
    Admitted,
    /// Not yet.
    Wait,
    /// No; nothing is sent.
    Refused(Status),
}
