//! The time that one attempt has.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{HeaderValue, Request};
use tokio::time::Instant;
use tonic::Status;
use tower_layer::Layer;

use crate::{
    context::Context,
    deadline::{Deadline, Scope, TimedOut, wire},
    guard::{Admission, End, Guard, Guarded, Never, Policy},
    upstream::Upstream,
};

/// Ends an attempt that takes too long, and tells the upstream how long it has.
///
/// It belongs inside the breaker: an upstream that hangs must count as failing,
/// and it can only when somebody inside the breaker stops waiting.
#[derive(Debug, Clone)]
pub struct AttemptTimeoutLayer {
    policy: Arc<AttemptTimeoutPolicy>,
}

impl AttemptTimeoutLayer {
    /// An attempt has what the configuration of `upstream` gives its method, or
    /// what its call has left if that is less.
    #[must_use]
    pub fn new(upstream: &Upstream) -> Self {
        Self {
            policy: Arc::new(AttemptTimeoutPolicy::new(upstream)),
        }
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeout<S>;

    fn layer(&self, inner: S) -> AttemptTimeout<S> {
        Guarded::new(inner, &self.policy)
    }
}

/// Ends an attempt that takes too long.
///
/// The time runs from the start of the attempt to its last trailer, and
/// includes connecting. Of a streaming method it runs to the first message, and
/// from there on the deadline of the call is all that counts. The upstream is
/// told by `grpc-timeout`, rewritten for each attempt.
///
/// # Errors
/// [`TimedOut`], with [`Scope::Attempt`], or [`Scope::Call`] when it was the
/// call that had no more time.
pub type AttemptTimeout<S> = Guarded<S, AttemptTimeoutPolicy>;

/// What [`AttemptTimeoutLayer`] does at the start of an attempt.
#[derive(Debug)]
pub struct AttemptTimeoutPolicy {
    upstream: Upstream,
    /// What most attempts say; made once.
    usual: (Duration, HeaderValue),
}

impl AttemptTimeoutPolicy {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        let usual = upstream.config().attempt_timeout;
        Self {
            upstream: upstream.clone(),
            usual: (usual, wire::value(usual)),
        }
    }

    fn header(&self, timeout: Duration) -> HeaderValue {
        let (usual, header) = &self.usual;
        if timeout == *usual {
            header.clone()
        } else {
            wire::value(timeout)
        }
    }
}

impl Policy for AttemptTimeoutPolicy {
    type Guard = AttemptTimeoutGuard;
    type Wait = Never;

    fn admit<R>(
        &self,
        context: &mut Context,
        request: &mut Request<R>,
    ) -> Admission<AttemptTimeoutGuard, Never> {
        let policy = self
            .upstream
            .policy(context.method(&self.upstream, request));
        let started = context.started;
        let left = context.deadline.map(|at| Deadline(at).remaining(started));
        let (after, scope) = match (policy.attempt_timeout, left) {
            (Some(timeout), Some(left)) if left < timeout => (Some(left), Scope::Call),
            (Some(timeout), _) => (Some(timeout), Scope::Attempt),
            (None, left) => (left, Scope::Call),
        };
        // What the upstream is told is the time for the whole answer, so of a
        // stream it is that of the call.
        let told = if policy.streaming { left } else { after };
        wire::write(request.headers_mut(), told.map(|told| self.header(told)));
        Admission::Admitted(AttemptTimeoutGuard {
            expires: after.map(|after| started + after),
            timed_out: TimedOut {
                scope,
                after: after.unwrap_or_default(),
            },
            stream: policy.streaming.then_some(Rest {
                expires: context.deadline,
                after: left.unwrap_or_default(),
            }),
        })
    }

    fn poll_admit<R>(
        &self,
        wait: &mut Never,
        _: &mut Context,
        _: &mut Request<R>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Result<AttemptTimeoutGuard, Status>> {
        match *wait {}
    }
}

/// Ends an attempt that takes too long.
#[derive(Debug)]
pub struct AttemptTimeoutGuard {
    expires: Option<Instant>,
    timed_out: TimedOut,
    /// What counts for the rest of a stream, once its first message is there.
    stream: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    expires: Option<Instant>,
    after: Duration,
}

impl Guard for AttemptTimeoutGuard {
    fn message(&mut self) {
        if let Some(rest) = self.stream.take() {
            self.expires = rest.expires;
            self.timed_out = TimedOut {
                scope: Scope::Call,
                after: rest.after,
            };
        }
    }

    fn expires(&self) -> Option<Instant> {
        self.expires
    }

    fn expired(&self) -> Status {
        self.timed_out.into_status()
    }

    fn translate(&self, status: Status) -> Status {
        match self.expires {
            Some(expires) => self.timed_out.translate(status, expires),
            None => status,
        }
    }

    fn ended(self, _: End<'_>, _: Instant) {}
}
