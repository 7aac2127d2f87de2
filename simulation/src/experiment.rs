//! What might be better than ours: rules that the library does not have, to be tried.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use resilience::{Classify, GrpcClassifier, Outcome, RetryBudget, RetryRule};
use tokio::task;
use tonic::{Code, Status};

/// Our budget, but that a retry after a timeout costs more than one after a failure.
///
/// A failure that comes soon leaves nothing behind. An attempt that timed out has left its work
/// in the queue of a server that does not drop it, and a retry puts it there twice: where
/// attempts time out because the server is behind, retries keep it behind.
#[derive(Debug)]
pub struct DearTimeouts {
    cost: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    balance: f64,
    /// Whether the attempt that is being judged has timed out.
    timed_out: bool,
    /// What the retries under way have cost. Every call is a task of its own.
    paid: BTreeMap<task::Id, f64>,
}

impl DearTimeouts {
    /// As by default; and what a success pays in.
    const CAPACITY: f64 = 20.0;
    const DEPOSIT: f64 = 0.2;

    /// A full one. `cost` is that of a retry after a timeout.
    #[must_use]
    pub fn new(cost: f64) -> Self {
        Self {
            cost,
            state: Mutex::new(State {
                balance: Self::CAPACITY,
                timed_out: false,
                paid: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, tokens: f64) {
        self.balance = (self.balance + tokens).min(DearTimeouts::CAPACITY);
    }
}

impl RetryBudget for DearTimeouts {
    fn withdraw(&self) -> bool {
        let mut state = self.state();
        let cost = if state.timed_out { self.cost } else { 1.0 };
        let enough = state.balance >= cost;
        if enough && let Some(call) = task::try_id() {
            state.balance -= cost;
            state.paid.insert(call, cost);
        }
        enough
    }

    fn refund(&self) {
        let mut state = self.state();
        let paid = task::try_id().and_then(|call| state.paid.remove(&call));
        state.add(paid.unwrap_or_default());
    }

    fn deposit(&self) {
        self.state().add(Self::DEPOSIT);
    }

    fn tokens(&self) -> f64 {
        self.state().balance
    }
}

/// Sees each failure right before the budget is asked.
impl Classify for DearTimeouts {
    fn retry(&self, status: &Status) -> RetryRule {
        self.state().timed_out = status.code() == Code::DeadlineExceeded;
        GrpcClassifier.retry(status)
    }

    fn outcome(&self, status: &Status) -> Outcome {
        GrpcClassifier.outcome(status)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_timeout_costs_more_and_gets_back_what_it_cost() {
        let budget = Arc::new(DearTimeouts::new(4.0));
        let retry = |status: Status, succeeds: bool| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move {
                budget.retry(&status);
                let allowed = budget.withdraw();
                if succeeds {
                    budget.refund();
                }
                (allowed, budget.tokens())
            })
        };
        assert_eq!(
            retry(Status::unavailable(""), false).await.unwrap(),
            (true, 19.0)
        );
        assert_eq!(
            retry(Status::deadline_exceeded(""), false).await.unwrap(),
            (true, 15.0)
        );
        assert_eq!(
            retry(Status::deadline_exceeded(""), true).await.unwrap(),
            (true, 15.0)
        );
        for left in [11.0, 7.0, 3.0] {
            assert_eq!(
                retry(Status::deadline_exceeded(""), false).await.unwrap(),
                (true, left)
            );
        }
        assert_eq!(
            retry(Status::deadline_exceeded(""), false).await.unwrap(),
            (false, 3.0)
        );
        assert_eq!(
            retry(Status::unavailable(""), false).await.unwrap(),
            (true, 2.0)
        );
    }
}
