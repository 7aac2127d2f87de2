//! The breaker of one upstream, shared by all its calls.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    BreakerConfig, BreakerState, Transition, Transitions, circuit::Circuit, snapshot::Permit,
};
use crate::{classify::Outcome, config::ConfigError, rejection::Rejection};

/// The circuit breaker of one upstream: to look at, and to force.
///
/// A cheap handle; clones show and change the same breaker.
///
/// [`BreakerLayer`](crate::layers::BreakerLayer) asks one for each attempt. By
/// itself it guards whatever else can fail, a database or a queue. It has no
/// clock: who asks says what time it is, so that it is looked at once.
///
/// ```
/// use resilience::{Breaker, BreakerConfig, Outcome};
/// use tokio::time::Instant;
///
/// # fn query() -> Result<u32, ()> { Ok(7) }
/// let breaker = Breaker::new("database", BreakerConfig::default())?;
///
/// match breaker.acquire(Instant::now()) {
///     Ok(pass) => {
///         let rows = query();
///         let outcome = if rows.is_ok() { Outcome::Success } else { Outcome::Failure };
///         pass.settle(outcome, Instant::now());
///     }
///     Err(rejection) => println!("{rejection}"), // and when it may be asked again
/// }
/// # Ok::<_, resilience::ConfigError>(())
/// ```
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
    /// A closed breaker, called `upstream` in metrics.
    ///
    /// # Errors
    /// The first rule that `config` breaks.
    pub fn new(upstream: &str, config: BreakerConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::of_valid(upstream, config))
    }

    /// `config` must be valid.
    pub(super) fn of_valid(upstream: &str, config: BreakerConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                slow_after: config.slow_after,
                circuit: Circuit::new(upstream, config, Instant::now()),
            }),
        }
    }

    /// Asks to send one attempt, which begins `now`.
    ///
    /// # Errors
    /// [`Rejection::CircuitOpen`]: it may not be sent.
    #[inline]
    pub fn acquire(&self, now: Instant) -> Result<Pass, Rejection> {
        Ok(Pass {
            permit: Some(self.permit(now)?),
            started: now,
            breaker: self.clone(),
        })
    }

    /// The state at this moment. An open circuit stays open until a call comes
    /// after its time: that call makes it half-open.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.shared.circuit.state()
    }

    /// When, and why, the circuit last opened, having been closed; `None` when
    /// it never did. That probes failed since is in the [`history`](Self::history).
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

    /// Refuses every call from now on; in the stack, as soon as the limit has
    /// let it through to be asked.
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

    /// Leave to send one attempt.
    #[inline]
    pub(super) fn permit(&self, now: Instant) -> Result<Permit, Rejection> {
        self.shared.circuit.acquire(now)
    }

    /// Says how the attempt that `permit` was for has ended, and how long it
    /// `took`.
    #[inline]
    pub(super) fn settle(
        &self,
        permit: Permit,
        outcome: Outcome,
        took: impl FnOnce() -> Duration,
        now: Instant,
    ) {
        let outcome = match self.shared.slow_after {
            Some(slow) if outcome == Outcome::Success && took() >= slow => Outcome::Failure,
            _ => outcome,
        };
        self.shared.circuit.settle(permit, outcome, now);
    }

    fn force(&self, to: Option<BreakerState>) {
        self.shared.circuit.force(to, Instant::now());
    }
}

/// Leave to send one attempt, to be settled when it is over.
///
/// One that is dropped counts for nothing, and gives back the place of a probe.
#[derive(Debug)]
#[must_use = "an attempt that is not settled says nothing about the upstream"]
pub struct Pass {
    /// `None` once it is settled.
    permit: Option<Permit>,
    started: Instant,
    breaker: Breaker,
}

impl Pass {
    /// The attempt was over `now`.
    #[inline]
    pub fn settle(mut self, outcome: Outcome, now: Instant) {
        if let Some(permit) = self.permit.take() {
            let took = || now.saturating_duration_since(self.started);
            self.breaker.settle(permit, outcome, took, now);
        }
    }

    #[cold]
    fn dropped(&self, permit: Permit) {
        let (outcome, now) = (Outcome::Ignored, Instant::now());
        self.breaker.settle(permit, outcome, || Duration::ZERO, now);
    }
}

impl Drop for Pass {
    #[inline]
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.dropped(permit);
        }
    }
}
