//! One request at a time for each order id, in this process.
//!
//! Of two requests with one id at the same time, the second waits for the first,
//! and then finds what it has stored. If the first stored nothing, the second
//! tries for itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The queue of one id: a permit is whose turn it is, and the others wait in
/// order.
type Queue = Arc<Semaphore>;
type Queues = Arc<Mutex<HashMap<String, Queue>>>;

/// The ids that are being worked on, and nothing of any other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Queues);

/// Leave to work on one id; dropped, the next has it.
#[derive(Debug)]
pub(crate) struct Turn {
    // Dropped before `_queued`, which counts who is still there.
    _permit: OwnedSemaphorePermit,
    _queued: Queued,
}

impl Turns {
    /// Waits until nobody else is working on `id`; who came first goes first.
    ///
    /// # Cancellation
    /// Dropped, it leaves the queue.
    pub(crate) async fn take(&self, id: &str) -> Turn {
        let queued = Queued::new(&self.0, id);
        let permit = Arc::clone(&queued.queue).acquire_owned().await;
        Turn {
            _permit: permit.expect("nobody closes a queue"),
            _queued: queued,
        }
    }
}

/// One whose turn it is, or who waits for it. The last of them takes the queue
/// away.
#[derive(Debug)]
struct Queued {
    queues: Queues,
    id: String,
    queue: Queue,
}

impl Queued {
    fn new(queues: &Queues, id: &str) -> Self {
        let queue = {
            let mut queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = queues.entry(id.to_owned());
            Arc::clone(queue.or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        Self {
            queues: Arc::clone(queues),
            id: id.to_owned(),
            queue,
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours and the map's: as others take theirs under the same lock, nobody
        // else is here or can come.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.id);
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
