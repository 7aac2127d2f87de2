//! The state machine, for many threads at once.
//!
//! Nearly every attempt finds the circuit closed and succeeds, or finds it
//! open. Neither changes the machine, so neither takes its lock:
//!
//! | what | how |
//! | --- | --- |
//! | acquire, closed or open | reads the gate |
//! | settle a success, closed | reads the gate, adds one to one word of the window |
//! | settle anything of an older epoch | reads the gate |
//! | settle a failure; anything in half-open; a transition | the lock, for a time that is bounded |
//!
//! # Why that is right
//!
//! What happens under the lock happens in one order. Everything else is one
//! read, or one change, of one word, and so has its place in that order too:
//!
//! - *The gate is read, and the circuit changes before the attempt is sent.*
//!   As if the attempt had asked a moment earlier. Its permit is of an older
//!   epoch then, and settles to nothing.
//! - *The circuit opens again between reading that it is open and reading until
//!   when.* The refusal tells the later time. It is a refusal either way, and
//!   the later time is the truth.
//! - *The open time is over.* That attempt, and each that comes before the
//!   transition is shown, takes the lock and asks the machine: the first makes
//!   it half-open, and the others find it so. Places for probes are given out
//!   under the lock, so there are never more than allowed.
//! - *A success is counted while a failure reads the window.* It is seen or
//!   not, as if it had come before or after. The run of failures is broken by
//!   what the window holds, so it is seen there by the next failure at the
//!   latest; unless its thread was held up, with the time in hand, until a later
//!   failure had looked at a later bucket. Then it is in the window, and the run
//!   goes on.
//! - *The circuit changes between a success reading the gate and counting
//!   itself*, be its thread suspended for a minute. The word it changes says
//!   which epoch it counts. Either it still counts the epoch of the success,
//!   which is not looked at any more; or it has become another's, and is left
//!   as it is.
//! - *Two threads look at the clock in one order and come here in the other.*
//!   Each outcome is counted in the bucket of its own time; spans that would be
//!   negative are zero.
//!
//! A failure is decided under the lock from a window that others are adding
//! successes to. It sees each failure before it, and each success that was
//! counted when it looked; that is all that "now" can mean.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

#[cfg(test)]
use super::snapshot::Snapshot;
use super::{
    BreakerConfig,
    gate::Gate,
    machine::StateMachine,
    record::Record,
    snapshot::{Bearing, Permit},
    state::{BreakerState, Transition},
    window::Window,
};
use crate::{classify::Outcome, rejection::Rejection};

#[derive(Debug)]
pub(super) struct Circuit {
    gate: Gate,
    window: Window,
    inner: Mutex<Inner>,
}

/// What the lock protects.
#[derive(Debug)]
struct Inner {
    machine: StateMachine,
    dice: fastrand::Rng,
    record: Record,
}

impl Circuit {
    pub(super) fn new(upstream: &str, config: BreakerConfig, now: Instant) -> Self {
        let dice = config
            .seed
            .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let window = Window::new(config.window, config.failure_ratio, now);
        let machine = StateMachine::new(config);
        Self {
            gate: Gate::new(machine.snapshot(), now),
            window,
            inner: Mutex::new(Inner {
                machine,
                dice,
                record: Record::new(upstream, now),
            }),
        }
    }

    /// Asks to send one attempt.
    #[inline]
    pub(super) fn acquire(&self, now: Instant) -> Result<Permit, Rejection> {
        let snapshot = self.gate.snapshot();
        if let Some(permit) = snapshot.pass() {
            Ok(permit)
        } else if let Some(rejection) = snapshot.refusal(|| self.gate.open_for(now)) {
            Err(rejection)
        } else {
            self.acquire_by_asking(now)
        }
    }

    /// Says how the attempt that `permit` was for has ended.
    #[inline]
    pub(super) fn settle(&self, permit: Permit, outcome: Outcome, now: Instant) {
        match self.gate.snapshot().bearing(&permit, outcome) {
            Bearing::None => {}
            Bearing::Success => self.window.success(permit.given_in().epoch(), now),
            Bearing::Decide => self.settle_by_asking(permit, outcome, now),
        }
    }

    /// Changes the state by hand; `None` ends what was forced.
    pub(super) fn force(&self, to: Option<BreakerState>, now: Instant) {
        let mut inner = self.lock();
        let transition = inner.machine.force(to, now);
        self.note(&mut inner, transition);
    }

    /// The state at this moment.
    pub(super) fn state(&self) -> BreakerState {
        self.gate.snapshot().state()
    }

    /// Share of failures in the window, 0 to 1; 0 when nothing is known.
    pub(super) fn failure_ratio(&self, now: Instant) -> f64 {
        self.lock()
            .machine
            .counts(&self.window, now)
            .failure_ratio()
    }

    /// Looks into the record, or subscribes to it.
    pub(super) fn record<T>(&self, look: impl FnOnce(&mut Record) -> T) -> T {
        look(&mut self.lock().record)
    }

    // Apart, so that the way most calls go stays short.
    #[cold]
    fn acquire_by_asking(&self, now: Instant) -> Result<Permit, Rejection> {
        let mut inner = self.lock();
        let Inner { machine, dice, .. } = &mut *inner;
        let (answer, transition) = machine.acquire(now, || dice.f64());
        self.note(&mut inner, transition);
        answer
    }

    #[cold]
    fn settle_by_asking(&self, permit: Permit, outcome: Outcome, now: Instant) {
        let mut inner = self.lock();
        let Inner { machine, dice, .. } = &mut *inner;
        let transition = machine.settle(permit, outcome, now, &self.window, || dice.f64());
        self.note(&mut inner, transition);
    }

    /// Shows a transition, and writes it down. Under the lock, so that it is
    /// seen in the order in which it happened; transitions are rare.
    fn note(&self, inner: &mut Inner, transition: Option<Transition>) {
        if let Some(transition) = transition {
            let machine = &inner.machine;
            self.gate.show(machine.snapshot(), machine.open_until());
            inner.record.note(transition);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For tests that look at everything that can happen.
#[cfg(test)]
impl Circuit {
    /// The same circuit once more, to take another way from here.
    pub(super) fn fork(&self) -> Self {
        let inner = self.lock();
        Self {
            gate: self.gate.fork(),
            window: self.window.fork(),
            inner: Mutex::new(Inner {
                machine: inner.machine.clone(),
                dice: inner.dice.clone(),
                record: inner.record.clone(),
            }),
        }
    }

    /// What the gate shows, what the machine is, and what the window holds.
    pub(super) fn look(&self) -> (Snapshot, StateMachine, &Window) {
        let machine = self.lock().machine.clone();
        (self.gate.snapshot(), machine, &self.window)
    }
}
