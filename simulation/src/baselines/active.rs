//! Envoy's retry budget: a share of what is in flight.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::Request;
use resilience::RetryBudget;
use tokio::task;
use tower_service::Service;

use super::budgets::lock;

/// Retries at one time may be a fifth of the requests that are active, or 3 if that is more.
///
/// As in Envoy's sources, a retry counts from when it is decided, so its wait counts too, until
/// the next one of the same call is decided or the call is over.
#[derive(Debug, Default)]
pub struct EnvoyBudget {
    active: Arc<AtomicUsize>,
    /// The calls that are waiting for a retry or making it. Every call is a task of its own.
    retrying: Mutex<BTreeSet<task::Id>>,
}

impl EnvoyBudget {
    const SHARE: f64 = 0.2;
    const AT_LEAST: usize = 3;

    /// Counts the requests that go through the service that is returned.
    pub fn counting<S>(&self, inner: S) -> Counting<S> {
        Counting {
            inner,
            active: Arc::clone(&self.active),
        }
    }

    /// The call of this task is over.
    pub fn call_over(&self) {
        self.over();
    }

    fn over(&self) {
        if let Some(call) = task::try_id() {
            lock(&self.retrying).remove(&call);
        }
    }

    fn most(&self) -> usize {
        let active = self.active.load(Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let share = (active as f64 * Self::SHARE) as usize;
        share.max(Self::AT_LEAST)
    }
}

impl RetryBudget for EnvoyBudget {
    fn withdraw(&self) -> bool {
        self.over();
        let mut retrying = lock(&self.retrying);
        let allowed = retrying.len() < self.most();
        if allowed && let Some(call) = task::try_id() {
            retrying.insert(call);
        }
        allowed
    }

    fn refund(&self) {
        self.over();
    }

    fn deposit(&self) {}

    fn tokens(&self) -> f64 {
        self.most().saturating_sub(lock(&self.retrying).len()) as f64
    }
}

/// Counts the requests in flight.
#[derive(Debug, Clone)]
pub struct Counting<S> {
    inner: S,
    active: Arc<AtomicUsize>,
}

/// One of them.
struct Active(Arc<AtomicUsize>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S, R> Service<Request<R>> for Counting<S>
where
    S: Service<Request<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        self.active.fetch_add(1, Ordering::Relaxed);
        let active = Active(Arc::clone(&self.active));
        let response = self.inner.call(request);
        Box::pin(async move {
            let _active = active;
            response.await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_fifth_of_what_is_active_may_retry_and_three_at_least() {
        let budget = Arc::new(EnvoyBudget::default());
        let retrying = |budget: &Arc<EnvoyBudget>| {
            let budget = Arc::clone(budget);
            tokio::spawn(async move { budget.withdraw() })
        };
        for expected in [true, true, true, false] {
            assert_eq!(retrying(&budget).await.unwrap(), expected);
        }
        budget.active.store(20, Ordering::Relaxed);
        assert!(retrying(&budget).await.unwrap());
        assert!(!retrying(&budget).await.unwrap());
    }

    #[tokio::test]
    async fn a_call_that_is_over_makes_room() {
        let budget = Arc::new(EnvoyBudget::default());
        for _ in 0..10 {
            let budget = Arc::clone(&budget);
            let allowed = tokio::spawn(async move {
                let allowed = budget.withdraw() && budget.withdraw();
                budget.call_over();
                allowed
            });
            assert!(
                allowed.await.unwrap(),
                "its own second retry replaces its first"
            );
        }
    }
}
