//! The transitions of a breaker, as they happen.

use tokio::sync::broadcast::{self, error::RecvError};

use super::state::Transition;

/// The transitions of a [`Breaker`](super::Breaker) from the moment of
/// [subscribing](super::Breaker::subscribe), in order.
///
/// The breaker waits for nobody: up to 32 transitions wait to be read, and a
/// reader who is slower than that misses the oldest. [`missed`](Self::missed)
/// says how many; and as each begins where the one before it ended, a gap shows.
///
/// ```
/// # use resilience::Breaker;
/// async fn watch(breaker: &Breaker) {
///     let mut transitions = breaker.subscribe();
///     while let Some(transition) = transitions.next().await {
///         println!("{:?}: {:?} → {:?}", transition.reason, transition.from, transition.to);
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Transitions {
    receiver: broadcast::Receiver<Transition>,
    missed: u64,
}

impl Transitions {
    pub(super) fn new(receiver: broadcast::Receiver<Transition>) -> Self {
        Self {
            receiver,
            missed: 0,
        }
    }

    /// The next transition; `None` when the breaker is gone, with all its
    /// handles and layers, and all that it did has been read.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing: the next call returns what it would
    /// have.
    pub async fn next(&mut self) -> Option<Transition> {
        // Twice at most, unless the breaker overtakes the reader again.
        loop {
            match self.receiver.recv().await {
                Ok(transition) => return Some(transition),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// How many transitions were missed so far because they were not read in
    /// time.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
