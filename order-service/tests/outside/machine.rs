//! What the machine itself is late by. A control does nothing but sleep, and looks how late it
//! wakes: what a busy machine adds to an answer is no fault of the service, and this says how
//! much that may be.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// How long the control sleeps.
const NAP: Duration = Duration::from_millis(5);
/// How many times somebody has to wake for one answer: our sender, the service's reader, its
/// timer, its writer, our reader, whoever waits.
const WAKES: u32 = 6;
/// Waking so late so often takes as long as an attempt may (250 ms): whoever asks finds a
/// service that fails, whatever the service does.
const STALL: Duration = Duration::from_millis(40);

/// The control, until it is dropped.
pub(crate) struct Machine {
    naps: Arc<Mutex<Vec<Nap>>>,
    _napping: JoinSet<()>,
}

/// One sleep.
#[derive(Clone, Copy)]
struct Nap {
    from: Instant,
    until: Instant,
}

impl Machine {
    pub(crate) fn watch() -> Self {
        let naps: Arc<Mutex<Vec<Nap>>> = Arc::default();
        let mut napping = JoinSet::new();
        let taken = Arc::clone(&naps);
        napping.spawn(async move {
            loop {
                let from = Instant::now();
                sleep(NAP).await;
                let until = Instant::now();
                taken.lock().unwrap().push(Nap { from, until });
            }
        });
        Self {
            naps,
            _napping: napping,
        }
    }

    /// What it may have added to an answer that was waited for between these two moments.
    pub(crate) fn added(&self, from: Instant, until: Instant) -> Duration {
        let naps = self.naps.lock().unwrap();
        let meanwhile = naps
            .iter()
            .filter(|nap| nap.until >= from && nap.from <= until);
        let worst = meanwhile.map(|nap| nap.late()).max();
        worst.unwrap_or_default() * WAKES
    }

    /// When it last stood still for so long that it was a fault of its own.
    pub(crate) fn last_stall(&self) -> Option<Instant> {
        let naps = self.naps.lock().unwrap();
        let stalls = naps.iter().rev().find(|nap| nap.late() >= STALL);
        stalls.map(|nap| nap.until)
    }
}

impl Nap {
    fn late(self) -> Duration {
        (self.until - self.from).saturating_sub(NAP)
    }
}
