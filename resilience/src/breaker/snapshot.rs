//! What can be answered without changing the machine: pure functions of the
//! state at one moment.
//!
//! Nearly all calls are answered here. The rest change something, and ask the
//! [`StateMachine`](super::machine::StateMachine).

use std::time::Duration;

use super::state::BreakerState;
use crate::{classify::Outcome, rejection::Rejection};

/// The state at one moment, and the number of transitions before it, in one
/// word.
///
/// Each transition begins an epoch, so two snapshots are equal when nothing
/// has happened in between, and only then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot(u64);

const STATE_BITS: u32 = 3;

impl Snapshot {
    pub(super) const fn new(state: BreakerState, epoch: u64) -> Self {
        Self(epoch << STATE_BITS | state.place() as u64)
    }

    pub(super) const fn word(self) -> u64 {
        self.0
    }

    pub(super) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(super) const fn state(self) -> BreakerState {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            2 => BreakerState::HalfOpen,
            3 => BreakerState::ForcedOpen,
            4 => BreakerState::ForcedClosed,
            _ => BreakerState::Disabled,
        }
    }

    pub(super) const fn epoch(self) -> u64 {
        self.0 >> STATE_BITS
    }

    /// Leave to send an attempt, in the states that let all pass.
    pub(super) fn pass(self) -> Option<Permit> {
        match self.state() {
            BreakerState::Closed | BreakerState::ForcedClosed | BreakerState::Disabled => {
                Some(Permit(self))
            }
            BreakerState::Open | BreakerState::HalfOpen | BreakerState::ForcedOpen => None,
        }
    }

    /// Why an attempt may not be sent, in the states that let none pass.
    /// `open_for` is what is left of the open time, if anything is.
    pub(super) fn refusal(self, open_for: impl FnOnce() -> Option<Duration>) -> Option<Rejection> {
        let retry_after = match self.state() {
            BreakerState::Open => Some(open_for()?),
            BreakerState::ForcedOpen => None,
            _ => return None,
        };
        Some(Rejection::CircuitOpen {
            retry_after,
            probing: false,
        })
    }

    /// What it means that the attempt of `permit` ended in `outcome`.
    pub(super) fn bearing(self, permit: &Permit, outcome: Outcome) -> Bearing {
        if permit.0 != self {
            return Bearing::None;
        }
        match self.state() {
            // Only a failure can say that too many fail.
            BreakerState::Closed | BreakerState::ForcedClosed => match outcome {
                Outcome::Success => Bearing::Success,
                Outcome::Failure => Bearing::Decide,
                Outcome::Answered | Outcome::Ignored => Bearing::None,
            },
            BreakerState::HalfOpen => Bearing::Decide,
            BreakerState::Open | BreakerState::ForcedOpen | BreakerState::Disabled => Bearing::None,
        }
    }
}

/// Leave to send one attempt; to be settled once, by value.
///
/// It remembers what it was given in. A result from before the last transition
/// says nothing about now, and counts for nothing.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Permit(Snapshot);

impl Permit {
    /// One for a probe, from a circuit that is half-open.
    pub(super) const fn probe(given_in: Snapshot) -> Self {
        Self(given_in)
    }

    /// Whether the attempt is one of the few that a half-open circuit lets
    /// through to find out.
    pub(crate) fn is_probe(&self) -> bool {
        self.0.state() == BreakerState::HalfOpen
    }

    /// What the circuit was when it was given.
    pub(super) const fn given_in(&self) -> Snapshot {
        self.0
    }
}

#[cfg(test)]
impl Permit {
    /// The same permit in another world: see `Circuit::fork`.
    pub(super) fn fork(&self) -> Self {
        Self(self.0)
    }
}

/// What an outcome means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearing {
    /// Nothing.
    None,
    /// One more success in the window.
    Success,
    /// The machine may have to change.
    Decide,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_comes_out_as_it_went_in() {
        for state in BreakerState::ALL {
            for epoch in [0, 1, 4095, 1 << 60] {
                let snapshot = Snapshot::new(*state, epoch);
                assert_eq!((snapshot.state(), snapshot.epoch()), (*state, epoch));
                assert_eq!(Snapshot::from_word(snapshot.word()), snapshot);
            }
        }
    }
}
