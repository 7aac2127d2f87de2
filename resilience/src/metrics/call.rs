//! One row per call, whatever happens inside.

use std::sync::Arc;

use http::{Extensions, Request};
use tonic::{Code, body::Body};
use tower_layer::Layer;

use super::{CallHandles, calls};
use crate::{
    context::Context,
    guard::{Admission, End, Guarded, Over, Policy},
    rejection::Rejection,
    retry::{Attempts, RetryStopped},
    upstream::{PerMethod, Upstream},
};

/// Measures calls: duration by status, and outcome.
///
/// Outermost, so that it sees what the caller sees. A call is over when its
/// response body is: at the trailers, an error, or when it is dropped.
#[derive(Debug, Clone)]
pub struct CallMetricsLayer {
    policy: Arc<CallMetricsPolicy>,
}

impl CallMetricsLayer {
    /// For calls to `upstream`; the methods that it names exist from the start,
    /// at zero.
    #[must_use]
    pub fn new(upstream: &Upstream) -> Self {
        Self {
            policy: Arc::new(CallMetricsPolicy::new(upstream)),
        }
    }
}

impl<S> Layer<S> for CallMetricsLayer {
    type Service = CallMetrics<S>;

    fn layer(&self, inner: S) -> CallMetrics<S> {
        Guarded::new(inner, &self.policy)
    }
}

/// Measures calls: see [`CallMetricsLayer`].
pub type CallMetrics<S> = Guarded<S, CallMetricsPolicy>;

/// What [`CallMetricsLayer`] does at the start of a call.
#[derive(Debug)]
pub struct CallMetricsPolicy {
    upstream: Upstream,
    table: PerMethod<CallHandles>,
}

impl CallMetricsPolicy {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        Self {
            upstream: upstream.clone(),
            table: calls(upstream),
        }
    }
}

impl Policy for CallMetricsPolicy {
    type Leave = Retried;

    #[inline]
    fn admit(
        &self,
        _: &mut Retried,
        context: &mut Context,
        request: &mut Request<Body>,
    ) -> Admission {
        context.method(&self.upstream, request);
        Admission::Admitted
    }

    #[inline]
    fn head(&self, retried: &mut Retried, extensions: &Extensions) {
        retried.0 = Attempts::of(extensions).retries > 0;
    }

    #[inline]
    fn ended(&self, retried: &mut Retried, context: &Context, end: End<'_>, over: Over) {
        let handles = self.table.get(context.known_method());
        let ok = |retried| {
            if retried {
                &handles.ok_after_retry
            } else {
                &handles.ok
            }
        };
        let (code, outcome) = match end {
            End::Ok => (Code::Ok, ok(retried.0)),
            End::Dropped => (Code::Cancelled, &handles.cancelled),
            End::Failed(status) if Rejection::of(status).is_some() => {
                (status.code(), &handles.rejected)
            }
            End::Failed(status) if self.upstream.is_answer(status) => {
                let before = RetryStopped::of(status).is_some_and(|why| why.retries() > 0);
                (status.code(), ok(retried.0 || before))
            }
            End::Failed(status) => (status.code(), &handles.failed),
        };
        handles.duration.get(code).record(over.took);
        outcome.increment(1);
    }
}

/// Whether a call has been retried, as far as is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retried(bool);
