//! One request at a time for each order id, in this process.
//!
//! Of two requests with one id at the same time, the second waits for the first,
//! and then finds what it has stored. If the first stored nothing, the second
//! tries for itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Lock = Arc<AsyncMutex<()>>;
type Locks = Arc<Mutex<HashMap<String, Lock>>>;

/// The ids that are being worked on, and nothing of any other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Locks);

/// Leave to work on one id; dropped, the next has it.
#[derive(Debug)]
pub(crate) struct Turn {
    // Dropped before `_queued`, which counts who still holds the lock.
    _guard: OwnedMutexGuard<()>,
    _queued: Queued,
}

impl Turns {
    /// Waits until nobody else is working on `id`; who came first goes first.
    ///
    /// # Cancellation
    /// Dropped, it leaves the queue.
    pub(crate) async fn take(&self, id: &str) -> Turn {
        let queued = Queued::new(&self.0, id);
        let guard = Arc::clone(&queued.lock).lock_owned().await;
        Turn {
            _guard: guard,
            _queued: queued,
        }
    }
}

/// One who holds or waits for the lock of an id. The last of them takes the lock
/// away.
#[derive(Debug)]
struct Queued {
    locks: Locks,
    id: String,
    lock: Lock,
}

impl Queued {
    fn new(locks: &Locks, id: &str) -> Self {
        let lock = {
            let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(id.to_owned()).or_default())
        };
        Self {
            locks: Arc::clone(locks),
            id: id.to_owned(),
            lock,
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours and the map's: as others take theirs under the same lock, nobody
        // else is here or can come.
        if Arc::strong_count(&self.lock) == 2 {
            locks.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn known(turns: &Turns) -> usize {
        turns.0.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_waits_for_the_first_and_another_id_does_not() {
        let turns = Turns::default();
        let first = turns.take("a").await;

        assert!(timeout(SECOND, turns.take("a")).await.is_err());
        assert!(timeout(SECOND, turns.take("b")).await.is_ok());
        drop(first);
        assert!(timeout(SECOND, turns.take("a")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_remembered_of_ids_that_are_done_or_given_up() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let given_up = tokio::spawn({
            let turns = turns.clone();
            async move { timeout(2 * SECOND, turns.take("a")).await.is_err() }
        });
        assert!(timeout(SECOND, turns.take("a")).await.is_err());
        assert_eq!(known(&turns), 1);
        assert!(given_up.await.unwrap());
        assert_eq!(known(&turns), 1);

        drop(first);

        assert_eq!(known(&turns), 0);
    }
}
