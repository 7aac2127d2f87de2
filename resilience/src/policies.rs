//! What may be replaced by code of one's own.

use std::{fmt, sync::Arc};

use crate::{
    classify::Classify,
    retry::{Backoff, RetryBudget},
};

/// Code of your own, in place of the built-in policies. Each is `None` by
/// default.
///
/// ```
/// use std::sync::Arc;
///
/// use resilience::{Classify, GrpcClassifier, Outcome, Policies, ResilienceConfig, RetryRule};
/// use tonic::{Code, Status};
///
/// /// As gRPC, but ABORTED is retried: this upstream means it so.
/// #[derive(Debug)]
/// struct AbortedIsRetried;
///
/// impl Classify for AbortedIsRetried {
///     fn retry(&self, status: &Status) -> RetryRule {
///         match status.code() {
///             Code::Aborted => RetryRule::Idempotent,
///             _ => GrpcClassifier.retry(status),
///         }
///     }
///
///     fn outcome(&self, status: &Status) -> Outcome {
///         GrpcClassifier.outcome(status)
///     }
/// }
///
/// let config = ResilienceConfig {
///     policies: Policies {
///         classifier: Some(Arc::new(AbortedIsRetried)),
///         ..Policies::default()
///     },
///     ..ResilienceConfig::default()
/// };
/// ```
#[derive(Clone, Default)]
pub struct Policies {
    /// Which failures are retried, and which mean that the upstream is unwell.
    /// `None`: [`GrpcClassifier`](crate::GrpcClassifier).
    pub classifier: Option<Arc<dyn Classify>>,
    /// How long to wait before a retry. `None`: exponential, as
    /// [`BackoffConfig`](crate::BackoffConfig) says.
    pub backoff: Option<Arc<dyn Backoff>>,
    /// How many retries all calls may make together; may be shared by several
    /// upstreams. `None`: one bucket for this upstream, as
    /// [`BudgetConfig`](crate::BudgetConfig) says.
    pub budget: Option<Arc<dyn RetryBudget>>,
}

/// Two are equal when they are the same: code cannot be compared.
impl PartialEq for Policies {
    fn eq(&self, other: &Self) -> bool {
        fn same<T: ?Sized>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
            match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (None, None) => true,
                _ => false,
            }
        }
        same(self.classifier.as_ref(), other.classifier.as_ref())
            && same(self.backoff.as_ref(), other.backoff.as_ref())
            && same(self.budget.as_ref(), other.budget.as_ref())
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies")
            .field("classifier", &self.classifier)
            .field("backoff", &self.backoff)
            .field("budget", &self.budget)
            .finish()
    }
}
