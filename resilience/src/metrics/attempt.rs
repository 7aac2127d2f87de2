//! One row per attempt that is really sent.

use std::sync::Arc;

use http::Request;
use tonic::{Code, body::Body};
use tower_layer::Layer;

use super::{AttemptHandles, attempts};
use crate::{
    context::Context,
    guard::{Admission, End, Guarded, Over, Policy},
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
    type Leave = ();

    #[inline]
    fn admit(&self, (): &mut (), context: &mut Context, request: &mut Request<Body>) -> Admission {
        let method = context.method(&self.upstream, request);
        self.table.get(method).started.increment(1);
        Admission::Admitted
    }

    #[inline]
    fn ended(&self, (): &mut (), context: &Context, end: End<'_>, over: Over) {
        let code = match end {
            End::Ok => Code::Ok,
            End::Failed(status) => status.code(),
            End::Dropped => Code::Cancelled,
        };
        let handles = self.table.get(context.known_method());
        handles.duration.get(code).record(over.took);
    }
}
