//! The words for what a circuit breaker is and does: its states, and the
//! changes between them.

use tokio::time::Instant;

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Every state, in the order of declaration.
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

    /// Its place in [`ALL`](Self::ALL).
    pub(super) const fn place(self) -> usize {
        self as usize
    }
}

/// Why the state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_stands_at_its_place() {
        for (place, state) in BreakerState::ALL.iter().enumerate() {
            assert_eq!(state.place(), place, "{state:?}");
        }
    }
}
