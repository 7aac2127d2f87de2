//! The circuit breaker as a state machine, without a clock, a lock or dice of
//! its own.
//!
//! ```text
//!            sure that 80 % fail, or 50 in a row
//!   closed ───────────────────────────────────────▶ open ◀─────────┐
//!      ▲                                              │            │
//!      │                                  first call after expiry  │
//!      │                                              ▼            │
//!      └───────────── 2 of 5 succeed ───────────── half-open ──────┘
//!                                               4 of 5 fail, or silence
//! ```
//!
//! It is told the time, and given dice for when it trips. [`Snapshot`] knows
//! what does not change it; it decides the rest.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    BreakerConfig,
    run::Run,
    snapshot::{Bearing, Permit, Snapshot},
    state::{BreakerState, Transition, TransitionReason},
    window::{Counts, Window},
};
use crate::{classify::Outcome, rejection::Rejection};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct StateMachine {
    config: BreakerConfig,
    state: State,
    /// Which permits are of today.
    epoch: u64,
    /// The epoch that the window shows. What is known of a failing upstream
    /// stays to be seen while the circuit is open, and is forgotten when it
    /// closes.
    shown: u64,
    run: Run,
    /// Trips since the circuit was last healthy.
    trips: u32,
    /// When it last closed by itself.
    closed_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probes: Probes },
    Manual(BreakerState),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Probes {
    unsettled: u32,
    succeeded: u32,
    failed: u32,
    last_sent: Instant,
}

impl Probes {
    fn new(now: Instant) -> Self {
        Self {
            unsettled: 0,
            succeeded: 0,
            failed: 0,
            last_sent: now,
        }
    }

    fn total(&self) -> u32 {
        self.unsettled + self.succeeded + self.failed
    }
}

impl StateMachine {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed,
            epoch: 0,
            shown: 0,
            run: Run::default(),
            trips: 0,
            closed_at: None,
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let state = match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
            State::Manual(state) => state,
        };
        Snapshot::new(state, self.epoch)
    }

    /// When the open time ends, while it is open.
    pub(super) fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// What the window holds.
    pub(super) fn counts(&self, window: &Window, now: Instant) -> Counts {
        window.counts(self.shown, now)
    }

    /// Asks to send one attempt. `dice`, thrown at a trip, is uniform in 0..1
    /// and makes jitter.
    pub(super) fn acquire(
        &mut self,
        now: Instant,
        dice: impl FnOnce() -> f64,
    ) -> (Result<Permit, Rejection>, Option<Transition>) {
        let mut transition = None;
        if let State::Open { until } = self.state
            && now >= until
        {
            let probes = Probes::new(now);
            transition = Some(self.enter(
                State::HalfOpen { probes },
                TransitionReason::OpenExpired,
                now,
            ));
        }
        // Probes that nobody settles, whatever the reason, must not hold the
        // circuit half-open for ever: their silence is a failure.
        if let State::HalfOpen { probes } = self.state
            && probes.total() >= self.config.probes
            && now.saturating_duration_since(probes.last_sent) >= self.config.probe_timeout
        {
            transition = Some(self.trip(TransitionReason::ProbesSilent, now, dice));
        }
        let snapshot = self.snapshot();
        let open_for = || self.open_until().map(|until| until - now);
        let answer = if let Some(permit) = snapshot.pass() {
            Ok(permit)
        } else if let Some(rejection) = snapshot.refusal(open_for) {
            Err(rejection)
        } else {
            self.probe(now)
        };
        (answer, transition)
    }

    /// Says how the attempt that `permit` was for has ended. `dice`, thrown at
    /// a trip, is uniform in 0..1 and makes jitter.
    pub(super) fn settle(
        &mut self,
        permit: Permit,
        outcome: Outcome,
        now: Instant,
        window: &Window,
        dice: impl FnOnce() -> f64,
    ) -> Option<Transition> {
        match self.snapshot().bearing(&permit, outcome) {
            Bearing::None => None,
            Bearing::Success => {
                window.success(self.epoch, now);
                None
            }
            Bearing::Decide => match &mut self.state {
                State::HalfOpen { probes } => {
                    probes.unsettled = probes.unsettled.saturating_sub(1);
                    match outcome {
                        Outcome::Success | Outcome::Answered => probes.succeeded += 1,
                        Outcome::Failure => probes.failed += 1,
                        // The place is free again.
                        Outcome::Ignored => {}
                    }
                    let probes = *probes;
                    self.judge(probes, now, dice)
                }
                _ => {
                    window.failure(self.epoch, now);
                    self.run.extend(window, self.epoch, now);
                    if self.state != State::Closed {
                        return None;
                    }
                    let reason = self.tripped(window, now)?;
                    Some(self.trip(reason, now, dice))
                }
            },
        }
    }

    /// Changes the state by hand; `None` returns to closed, and to working by
    /// itself.
    pub(super) fn force(&mut self, to: Option<BreakerState>, now: Instant) -> Option<Transition> {
        let to = match to {
            Some(state) if state == self.snapshot().state() => return None,
            Some(state) => State::Manual(state),
            None if !matches!(self.state, State::Manual(_)) => return None,
            None => {
                self.trips = 0;
                State::Closed
            }
        };
        Some(self.enter(to, TransitionReason::Manual, now))
    }

    /// Sends a probe, if there is a place for one.
    fn probe(&mut self, now: Instant) -> Result<Permit, Rejection> {
        let snapshot = self.snapshot();
        match &mut self.state {
            State::HalfOpen { probes } if probes.total() < self.config.probes => {
                probes.unsettled += 1;
                probes.last_sent = now;
                Ok(Permit::probe(snapshot))
            }
            _ => Err(Rejection::CircuitOpen {
                retry_after: None,
                probing: true,
            }),
        }
    }

    /// Closes, or opens again, when the probes have said enough.
    fn judge(
        &mut self,
        probes: Probes,
        now: Instant,
        dice: impl FnOnce() -> f64,
    ) -> Option<Transition> {
        if probes.succeeded >= self.config.probes_to_close {
            self.closed_at = Some(now);
            Some(self.enter(State::Closed, TransitionReason::ProbesSucceeded, now))
        } else if probes.failed > self.config.probes - self.config.probes_to_close {
            // Too few are left to succeed.
            Some(self.trip(TransitionReason::ProbesFailed, now, dice))
        } else {
            None
        }
    }

    /// Whether a failure that has just been counted opens the circuit, and why.
    fn tripped(&self, window: &Window, now: Instant) -> Option<TransitionReason> {
        let Self { config, run, .. } = self;
        if run.length() >= config.consecutive_failures
            && run.lasted(now) >= config.consecutive_at_least
        {
            return Some(TransitionReason::ConsecutiveFailures);
        }
        let sure = window.counts(self.epoch, now).confident_failure_ratio();
        (sure >= config.failure_ratio && window.is_half_full(self.epoch, now))
            .then_some(TransitionReason::FailureRatio)
    }

    fn trip(
        &mut self,
        reason: TransitionReason,
        now: Instant,
        dice: impl FnOnce() -> f64,
    ) -> Transition {
        let healthy = self.closed_at.is_some_and(|closed| {
            now.saturating_duration_since(closed) > self.config.healthy_after
        });
        if self.state == State::Closed && healthy {
            self.trips = 0;
        }
        let until = now + open_time(&self.config, self.trips, dice());
        self.trips = self.trips.saturating_add(1);
        self.enter(State::Open { until }, reason, now)
    }

    fn enter(&mut self, state: State, reason: TransitionReason, now: Instant) -> Transition {
        let from = self.snapshot().state();
        self.state = state;
        self.epoch += 1;
        if matches!(self.state, State::Closed | State::Manual(_)) {
            self.shown = self.epoch;
        }
        self.run = Run::default();
        Transition {
            from,
            to: self.snapshot().state(),
            reason,
            at: now,
        }
    }
}

/// How long the circuit stays open: doubling with each trip up to the longest,
/// ±20 % so that clients do not come back in step.
fn open_time(config: &BreakerConfig, trips: u32, dice: f64) -> Duration {
    let doubled = config
        .open_initial
        .saturating_mul(2_u32.saturating_pow(trips.min(16)));
    doubled.min(config.open_max).mul_f64(0.8 + 0.4 * dice)
}

#[cfg(test)]
mod exhaustive;
#[cfg(test)]
mod tests;
