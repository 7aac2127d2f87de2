//! The time that one attempt has.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower_layer::Layer;

use crate::{
    context::Context,
    deadline::{Scope, TimedOut, requested, wire},
    guard::{Admission, End, Guarded, Over, Policy},
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
    type Leave = Limits;

    #[inline]
    fn admit(
        &self,
        leave: &mut Limits,
        context: &mut Context,
        request: &mut Request<Body>,
    ) -> Admission {
        let method = context.method(&self.upstream, request);
        let policy = self.upstream.policy(method);
        if context.is_by_extensions() {
            // Without our deadline above, the caller's own still holds.
            context.shorten(requested(request.headers()));
        }
        let left = context.left();
        let limits = match (policy.attempt_timeout, left) {
            (Some(timeout), Some(left)) if left < timeout => Limits::of(Scope::Call, left),
            (Some(timeout), _) => Limits::of(Scope::Attempt, timeout),
            (None, left) => Limits {
                after: left,
                ..Limits::default()
            },
        };
        // What the upstream is told is the time for the whole answer, so of a
        // stream it is that of the call.
        let told = if policy.streaming { left } else { limits.after };
        wire::write(request.headers_mut(), told.map(|told| self.header(told)));
        *leave = Limits {
            streaming: policy.streaming,
            ..limits
        };
        Admission::Admitted
    }

    /// With its first message, a stream has shown what it was to show in the
    /// time of an attempt. What is left is the time of the call.
    #[inline]
    fn message(&self, limits: &mut Limits, context: &Context) {
        if limits.streaming {
            *limits = Limits {
                after: context.left(),
                ..Limits::default()
            };
        }
    }

    #[inline]
    fn expires(&self, limits: &Limits, context: &Context) -> Option<Instant> {
        limits.after.map(|after| context.started + after)
    }

    fn expired(&self, limits: &Limits, _: &Context) -> Status {
        limits.timed_out().into_status()
    }

    fn translate(&self, limits: &Limits, context: &Context, status: Status) -> Status {
        match self.expires(limits, context) {
            Some(expires) => limits.timed_out().translate(status, expires),
            None => status,
        }
    }

    #[inline]
    fn ended(&self, _: &mut Limits, _: &Context, _: End<'_>, _: Over) {}
}

/// The time that an attempt has.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Whose time it is.
    scope: Scope,
    /// From the start; `None`: for ever.
    after: Option<Duration>,
    /// Whether all this holds for the first message only.
    streaming: bool,
}

impl Default for Limits {
    /// No end.
    fn default() -> Self {
        Self {
            scope: Scope::Call,
            after: None,
            streaming: false,
        }
    }
}

impl Limits {
    fn of(scope: Scope, after: Duration) -> Self {
        Self {
            scope,
            after: Some(after),
            streaming: false,
        }
    }

    fn timed_out(self) -> TimedOut {
        TimedOut {
            scope: self.scope,
            after: self.after.unwrap_or_default(),
        }
    }
}
