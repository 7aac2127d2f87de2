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
//! A [`Permit`] remembers the epoch it was issued in, and every transition
//! begins a new one: a result from before says nothing about now.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    BreakerConfig,
    window::{STRETCH_MAX, Window},
};
use crate::classify::Outcome;

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls pass, and their outcomes are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls pass as probes, to find out; the others are refused.
    HalfOpen,
    /// Calls are refused until someone says otherwise.
    ForcedOpen,
    /// Calls pass, whatever their outcome, until someone says otherwise.
    ForcedClosed,
    /// Calls pass uncounted until someone says otherwise.
    Disabled,
}

impl BreakerState {
    /// Every state.
    pub const ALL: &[Self] = &[
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
        Self::Disabled,
    ];

    /// As metrics and logs show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
        }
    }
}

/// Why the state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransitionReason {
    /// The window is confident that at least the configured share fails.
    FailureRatio,
    /// Too many failures in a row.
    ConsecutiveFailures,
    /// The open time is over.
    OpenExpired,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// Too many probes failed.
    ProbesFailed,
    /// The probes were not heard of again.
    ProbesSilent,
    /// Someone changed it by hand.
    Manual,
}

impl TransitionReason {
    /// The transitions that happen by themselves.
    pub(crate) const AUTOMATIC: &[(BreakerState, BreakerState, Self)] = &[
        (BreakerState::Closed, BreakerState::Open, Self::FailureRatio),
        (
            BreakerState::Closed,
            BreakerState::Open,
            Self::ConsecutiveFailures,
        ),
        (
            BreakerState::Open,
            BreakerState::HalfOpen,
            Self::OpenExpired,
        ),
        (
            BreakerState::HalfOpen,
            BreakerState::Closed,
            Self::ProbesSucceeded,
        ),
        (
            BreakerState::HalfOpen,
            BreakerState::Open,
            Self::ProbesFailed,
        ),
        (
            BreakerState::HalfOpen,
            BreakerState::Open,
            Self::ProbesSilent,
        ),
    ];

    /// As metrics and logs show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailureRatio => "failure_ratio",
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::OpenExpired => "open_expired",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ProbesFailed => "probes_failed",
            Self::ProbesSilent => "probes_silent",
            Self::Manual => "manual",
        }
    }
}

/// One change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: BreakerState,
    /// The state since.
    pub to: BreakerState,
    /// Why.
    pub reason: TransitionReason,
    /// When.
    pub at: Instant,
}

/// Leave to send one attempt; to be settled once, by value.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    epoch: u64,
    probe: bool,
}

impl Permit {
    pub(super) fn is_probe(&self) -> bool {
        self.probe
    }
}

/// Why an attempt may not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Time until the next probe may be sent, where that is known.
    pub(super) retry_after: Option<Duration>,
    pub(super) probing: bool,
}

#[derive(Debug)]
pub(super) struct StateMachine {
    config: BreakerConfig,
    state: State,
    /// Which permits are of today.
    epoch: u64,
    window: Window,
    run: Run,
    /// Trips since the circuit was last healthy.
    trips: u32,
    /// When it last closed by itself.
    closed_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probes: Probes },
    Manual(BreakerState),
}

#[derive(Debug, Clone, Copy)]
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

/// Failures in a row.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    length: u32,
    since: Option<Instant>,
}

impl Run {
    fn extend(&mut self, now: Instant) {
        match self.since {
            Some(since) if now.saturating_duration_since(since) <= STRETCH_MAX => {
                self.length = self.length.saturating_add(1);
            }
            // It began too long ago to count: this failure begins another.
            _ => {
                *self = Self {
                    length: 1,
                    since: Some(now),
                }
            }
        }
    }

    fn lasted(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl StateMachine {
    pub(super) fn new(config: BreakerConfig, now: Instant) -> Self {
        Self {
            state: State::Closed,
            epoch: 0,
            window: Window::new(config.window, now),
            run: Run::default(),
            trips: 0,
            closed_at: None,
            config,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
            State::Manual(state) => state,
        }
    }

    /// The share of failures in the window.
    pub(super) fn failure_ratio(&self, now: Instant) -> f64 {
        self.window.counts(now).failure_ratio()
    }

    /// Asks to send one attempt. `dice` is uniform in 0..1 and makes jitter.
    pub(super) fn acquire(
        &mut self,
        now: Instant,
        dice: f64,
    ) -> (Result<Permit, Refusal>, Option<Transition>) {
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
        let epoch = self.epoch;
        let result = match &mut self.state {
            State::Closed | State::Manual(BreakerState::ForcedClosed | BreakerState::Disabled) => {
                Ok(Permit {
                    epoch,
                    probe: false,
                })
            }
            State::Open { until } => Err(Refusal {
                retry_after: Some(*until - now),
                probing: false,
            }),
            State::HalfOpen { probes } if probes.total() < self.config.probes => {
                probes.unsettled += 1;
                probes.last_sent = now;
                Ok(Permit { epoch, probe: true })
            }
            State::HalfOpen { .. } => Err(Refusal {
                retry_after: None,
                probing: true,
            }),
            State::Manual(_) => Err(Refusal {
                retry_after: None,
                probing: false,
            }),
        };
        (result, transition)
    }

    /// Says how the attempt that `permit` was for has ended. `dice` is uniform
    /// in 0..1 and makes jitter.
    pub(super) fn settle(
        &mut self,
        permit: Permit,
        outcome: Outcome,
        now: Instant,
        dice: f64,
    ) -> Option<Transition> {
        if permit.epoch != self.epoch {
            return None;
        }
        match &mut self.state {
            State::Closed => {
                self.record(outcome, now);
                // Only a failure can say that too many fail.
                let reason = (outcome == Outcome::Failure)
                    .then(|| self.tripped(now))
                    .flatten()?;
                Some(self.trip(reason, now, dice))
            }
            State::HalfOpen { probes } => {
                probes.unsettled = probes.unsettled.saturating_sub(1);
                match outcome {
                    Outcome::Success | Outcome::Answered => probes.succeeded += 1,
                    Outcome::Failure => probes.failed += 1,
                    // The place is free again.
                    Outcome::Ignored => {}
                }
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
            State::Manual(BreakerState::ForcedClosed) => {
                self.record(outcome, now);
                None
            }
            State::Open { .. } | State::Manual(_) => None,
        }
    }

    /// Changes the state by hand; `None` returns to closed, and to working by
    /// itself.
    pub(super) fn force(&mut self, to: Option<BreakerState>, now: Instant) -> Option<Transition> {
        let to = match to {
            Some(state) if state == self.state() => return None,
            Some(state) => State::Manual(state),
            None if !matches!(self.state, State::Manual(_)) => return None,
            None => {
                self.trips = 0;
                State::Closed
            }
        };
        Some(self.enter(to, TransitionReason::Manual, now))
    }

    fn record(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Success => {
                self.window.record(false, now);
                self.run = Run::default();
            }
            Outcome::Failure => {
                self.window.record(true, now);
                self.run.extend(now);
            }
            Outcome::Answered | Outcome::Ignored => {}
        }
    }

    fn tripped(&self, now: Instant) -> Option<TransitionReason> {
        if self.run.length >= self.config.consecutive_failures
            && self.run.lasted(now) >= self.config.consecutive_at_least
        {
            return Some(TransitionReason::ConsecutiveFailures);
        }
        let sure = self.window.counts(now).confident_failure_ratio();
        (sure >= self.config.failure_ratio).then_some(TransitionReason::FailureRatio)
    }

    fn trip(&mut self, reason: TransitionReason, now: Instant, dice: f64) -> Transition {
        let healthy = self.closed_at.is_some_and(|closed| {
            now.saturating_duration_since(closed) > self.config.healthy_after
        });
        if matches!(self.state, State::Closed) && healthy {
            self.trips = 0;
        }
        let until = now + open_time(&self.config, self.trips, dice);
        self.trips = self.trips.saturating_add(1);
        self.enter(State::Open { until }, reason, now)
    }

    fn enter(&mut self, state: State, reason: TransitionReason, now: Instant) -> Transition {
        let from = self.state();
        self.state = state;
        self.epoch += 1;
        // What is known of a failing upstream stays to be seen while it is open.
        if matches!(self.state, State::Closed | State::Manual(_)) {
            self.window.clear();
        }
        self.run = Run::default();
        Transition {
            from,
            to: self.state(),
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
mod tests;
