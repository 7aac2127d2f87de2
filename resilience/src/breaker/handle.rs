//! The breaker of one upstream, shared by all its calls.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    BreakerConfig, BreakerState, Transition, TransitionReason,
    machine::{Permit, StateMachine},
};
use crate::{classify::Outcome, metrics::BreakerHandles, rejection::Rejection};

/// The circuit breaker of one upstream: to look at, and to force.
///
/// A cheap handle; clones show and change the same breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    slow_after: Option<Duration>,
    handles: BreakerHandles,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    machine: StateMachine,
    dice: fastrand::Rng,
    last_trip: Option<Transition>,
    /// Time spent in each state before the current one, by its place in
    /// `BreakerState::ALL`.
    spent: [Duration; BreakerState::ALL.len()],
    since: Instant,
}

impl Breaker {
    /// `config` must be valid.
    pub(super) fn new(upstream: &str, config: BreakerConfig) -> Self {
        let now = Instant::now();
        let dice = config
            .seed
            .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self {
            shared: Arc::new(Shared {
                upstream: upstream.to_owned(),
                slow_after: config.slow_after,
                handles: BreakerHandles::new(upstream),
                inner: Mutex::new(Inner {
                    machine: StateMachine::new(config, now),
                    dice,
                    last_trip: None,
                    spent: Default::default(),
                    since: now,
                }),
            }),
        }
    }

    /// The state at this moment. An open circuit stays open until a call comes
    /// after its time: that call makes it half-open.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.lock().machine.state()
    }

    /// When, and why, the circuit last opened; `None` when it never did.
    #[must_use]
    pub fn last_trip(&self) -> Option<Transition> {
        self.lock().last_trip
    }

    /// Share of failures in the window, 0 to 1; 0 when nothing is known.
    #[must_use]
    pub fn failure_ratio(&self) -> f64 {
        self.lock().machine.failure_ratio(Instant::now())
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

    /// Brings the gauges up to date: to be called before each scrape. [`ResilienceLayer`](crate::ResilienceLayer) does it for all its layers.
    pub fn refresh_metrics(&self) {
        let now = Instant::now();
        let inner = self.lock();
        let current = inner.machine.state();
        self.shared
            .handles
            .refresh(inner.machine.failure_ratio(now), |state| {
                let open_ended = if state == current {
                    now - inner.since
                } else {
                    Duration::ZERO
                };
                inner.spent[place(state)] + open_ended
            });
    }

    /// Asks to send one attempt.
    pub(super) fn acquire(&self, now: Instant) -> Result<Permit, Rejection> {
        let mut inner = self.lock();
        let Inner { machine, dice, .. } = &mut *inner;
        let (result, transition) = machine.acquire(now, dice.f64());
        self.note(&mut inner, transition);
        result.map_err(|refusal| Rejection::CircuitOpen {
            retry_after: refusal.retry_after,
            probing: refusal.probing,
        })
    }

    /// Says how the attempt that `permit` was for has ended.
    pub(super) fn settle(&self, permit: Permit, outcome: Outcome, took: Duration, now: Instant) {
        let slow = self.shared.slow_after.is_some_and(|slow| took >= slow);
        let outcome = if slow && outcome == Outcome::Success {
            Outcome::Failure
        } else {
            outcome
        };
        let mut inner = self.lock();
        let Inner { machine, dice, .. } = &mut *inner;
        let transition = machine.settle(permit, outcome, now, dice.f64());
        self.note(&mut inner, transition);
    }

    fn force(&self, to: Option<BreakerState>) {
        let mut inner = self.lock();
        let transition = inner.machine.force(to, Instant::now());
        self.note(&mut inner, transition);
    }

    /// Writes a transition down. Under the lock, so that what is shown comes
    /// in the order in which it happened; transitions are rare.
    fn note(&self, inner: &mut Inner, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        let Transition {
            from,
            to,
            reason,
            at,
        } = transition;
        inner.spent[place(from)] += at.saturating_duration_since(inner.since);
        inner.since = at;
        if to == BreakerState::Open {
            inner.last_trip = Some(transition);
        }
        self.shared.handles.transition(from, to, reason);
        self.shared.handles.entered(to);
        let (upstream, from, to) = (&self.shared.upstream, from.as_str(), to.as_str());
        let reason_text = reason.as_str();
        match reason {
            TransitionReason::FailureRatio
            | TransitionReason::ConsecutiveFailures
            | TransitionReason::ProbesFailed
            | TransitionReason::ProbesSilent
            | TransitionReason::Manual => {
                tracing::warn!(upstream, from, to, reason = reason_text, "circuit breaker");
            }
            TransitionReason::OpenExpired | TransitionReason::ProbesSucceeded => {
                tracing::info!(upstream, from, to, reason = reason_text, "circuit breaker");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(state: BreakerState) -> usize {
    BreakerState::ALL
        .iter()
        .position(|each| *each == state)
        .unwrap_or_default()
}
