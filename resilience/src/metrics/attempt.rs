//! One row per attempt that is really sent.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use http::Request;
use tokio::time::Instant;
use tonic::{Code, Status};
use tower_layer::Layer;

use super::{AttemptHandles, attempts};
use crate::{
    context::Context,
    guard::{Admission, End, Guard, Guarded, Never, Policy},
    upstream::{PerMethod, Upstream},
};

/// Measures attempts: how many were sent, and duration by status.
///
/// Inside everything that may refuse one: a refusal is not an attempt.
#[derive(Debug, Clone)]
pub struct AttemptMetricsLayer {
    policy: Arc<AttemptMetricsPolicy>,
}

impl AttemptMetricsLayer {
    /// For attempts at `upstream`; the methods that it names exist from the
    /// start, at zero.
    #[must_use]
    pub fn new(upstream: &Upstream) -> Self {
        Self {
            policy: Arc::new(AttemptMetricsPolicy::new(upstream)),
        }
    }
}

impl<S> Layer<S> for AttemptMetricsLayer {
    type Service = AttemptMetrics<S>;

    fn layer(&self, inner: S) -> AttemptMetrics<S> {
        Guarded::new(inner, &self.policy)
    }
}

/// Measures attempts: see [`AttemptMetricsLayer`].
pub type AttemptMetrics<S> = Guarded<S, AttemptMetricsPolicy>;

/// What [`AttemptMetricsLayer`] does at the start of an attempt.
#[derive(Debug)]
pub struct AttemptMetricsPolicy {
    upstream: Upstream,
    table: PerMethod<AttemptHandles>,
}

impl AttemptMetricsPolicy {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        Self {
            upstream: upstream.clone(),
            table: attempts(upstream),
        }
    }
}

impl Policy for AttemptMetricsPolicy {
    type Guard = AttemptMetricsGuard;
    type Wait = Never;

    fn admit<R>(
        &self,
        context: &mut Context,
        request: &mut Request<R>,
    ) -> Admission<AttemptMetricsGuard, Never> {
        let handles = self.table.get(context.method(&self.upstream, request));
        handles.started.increment(1);
        Admission::Admitted(AttemptMetricsGuard {
            started: context.started,
            handles: Arc::clone(handles),
        })
    }

    fn poll_admit<R>(
        &self,
        wait: &mut Never,
        _: &mut Context,
        _: &mut Request<R>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Result<AttemptMetricsGuard, Status>> {
        match *wait {}
    }
}

/// One attempt under way.
#[derive(Debug)]
pub struct AttemptMetricsGuard {
    started: Instant,
    handles: Arc<AttemptHandles>,
}

impl Guard for AttemptMetricsGuard {
    fn ended(self, end: End<'_>, at: Instant) {
        let code = match end {
            End::Ok => Code::Ok,
            End::Failed(status) => status.code(),
            End::Dropped => Code::Cancelled,
        };
        self.handles.duration.get(code).record(at - self.started);
    }
}
