//! The breaker of one upstream, shared by all its calls.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    BreakerConfig, BreakerState, Transition, Transitions, circuit::Circuit, snapshot::Permit,
};
use crate::{classify::Outcome, rejection::Rejection};

/// The circuit breaker of one upstream: to look at, and to force.
///
/// A cheap handle; clones show and change the same breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    slow_after: Option<Duration>,
    circuit: Circuit,
}

impl Breaker {
    /// `config` must be valid.
    pub(super) fn new(upstream: &str, config: BreakerConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                slow_after: config.slow_after,
                circuit: Circuit::new(upstream, config, Instant::now()),
            }),
        }
    }

    /// The state at this moment. An open circuit stays open until a call comes
    /// after its time: that call makes it half-open.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.shared.circuit.state()
    }

    /// When, and why, the circuit last opened; `None` when it never did.
    #[must_use]
    pub fn last_trip(&self) -> Option<Transition> {
        self.shared.circuit.record(|record| record.last_trip())
    }

    /// The last 32 transitions, the oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Transition> {
        self.shared.circuit.record(|record| record.history())
    }

    /// The transitions from now on, as they happen. To miss none, subscribe
    /// first and read the [`history`](Self::history) then.
    #[must_use]
    pub fn subscribe(&self) -> Transitions {
        self.shared.circuit.record(|record| record.subscribe())
    }

    /// Share of failures in the window, 0 to 1; 0 when nothing is known.
    #[must_use]
    pub fn failure_ratio(&self) -> f64 {
        self.shared.circuit.failure_ratio(Instant::now())
    }

    /// Refuses every call from now on.
    pub fn force_open(&self) {
        self.force(Some(BreakerState::ForcedOpen));
    }

    /// Lets every call pass from now on; outcomes are still counted.
    pub fn force_closed(&self) {
        self.force(Some(BreakerState::ForcedClosed));
    }

    /// Lets every call pass from now on, and counts nothing.
    pub fn disable(&self) {
        self.force(Some(BreakerState::Disabled));
    }

    /// Ends what was forced: closed, with nothing counted, and on its own again.
    pub fn resume(&self) {
        self.force(None);
    }

    /// Brings the gauges up to date: to be called before each scrape.
    /// [`ResilienceLayer`](crate::ResilienceLayer) does it for all its layers.
    pub fn refresh_metrics(&self) {
        let now = Instant::now();
        let failure_ratio = self.shared.circuit.failure_ratio(now);
        self.shared
            .circuit
            .record(|record| record.refresh_metrics(failure_ratio, now));
    }

    /// Asks to send one attempt.
    #[inline]
    pub(crate) fn acquire(&self, now: Instant) -> Result<Permit, Rejection> {
        self.shared.circuit.acquire(now)
    }

    /// Says how the attempt that `permit` was for has ended, and how long it
    /// `took`.
    #[inline]
    pub(crate) fn settle(&self, permit: Permit, outcome: Outcome, took: Duration, now: Instant) {
        let slow = self
            .shared
            .slow_after
            .is_some_and(|slow_after| took >= slow_after);
        let outcome = if slow && outcome == Outcome::Success {
            Outcome::Failure
        } else {
            outcome
        };
        self.shared.circuit.settle(permit, outcome, now);
    }

    fn force(&self, to: Option<BreakerState>) {
        self.shared.circuit.force(to, Instant::now());
    }
}
