//! What every attempt reads first.

use std::{
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::snapshot::Snapshot;

/// The machine's state as it is since its last transition, for reading without
/// the lock.
///
/// It is read by every attempt and hardly ever written to, so it has cache
/// lines to itself (two, as processors fetch them in pairs): beside the
/// window, each success would take it away from all other threads.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Gate {
    start: Instant,
    snapshot: AtomicU64,
    /// Until when the circuit stays open, in nanoseconds from the start.
    /// Written before the snapshot: who reads that the circuit is open reads
    /// the time of this trip, or of a later one.
    open_until: AtomicU64,
}

impl Gate {
    pub(super) fn new(snapshot: Snapshot, now: Instant) -> Self {
        Self {
            start: now,
            snapshot: AtomicU64::new(snapshot.word()),
            open_until: AtomicU64::new(0),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::from_word(self.snapshot.load(Acquire))
    }

    /// What is left of the open time, if anything is.
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        let (until, now) = (self.open_until.load(Relaxed), self.nanos(now));
        (until > now).then(|| Duration::from_nanos(until - now))
    }

    /// Shows what the machine has become. Only who holds its lock may.
    pub(super) fn show(&self, snapshot: Snapshot, open_until: Option<Instant>) {
        if let Some(until) = open_until {
            self.open_until.store(self.nanos(until), Relaxed);
        }
        self.snapshot.store(snapshot.word(), Release);
    }

    #[cfg(test)]
    pub(super) fn fork(&self) -> Self {
        Self {
            start: self.start,
            snapshot: AtomicU64::new(self.snapshot().word()),
            open_until: AtomicU64::new(self.open_until.load(Relaxed)),
        }
    }

    /// Nanoseconds from the start; good for 584 years.
    fn nanos(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.start);
        // Not `as_nanos`, which has twice the bits, and costs twice as much.
        elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::state::BreakerState, *};

    #[test]
    fn what_is_shown_is_read() {
        let now = Instant::now();
        let gate = Gate::new(Snapshot::new(BreakerState::Closed, 0), now);
        let open = Snapshot::new(BreakerState::Open, 1);
        let open_for = Duration::from_nanos(512_345_678);
        gate.show(open, Some(now + open_for));
        assert_eq!(gate.snapshot(), open);
        assert_eq!(gate.open_for(now), Some(open_for));
        assert_eq!(gate.open_for(now + open_for), None);
        assert_eq!(gate.open_for(now + 2 * open_for), None);
    }
}
