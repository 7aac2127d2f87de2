//! What a poll is given.

use std::task::Context as TaskContext;

use tokio::time::Instant;

/// One turn of a task: its waker, and its look at the clock.
///
/// To look at the clock takes as long as all else that a layer does. So all
/// that happens in one turn happens at one time, and only when somebody asks is
/// it known: the end of an attempt, say, which then is the end of its call.
#[derive(Debug)]
pub struct Turn<'a, 'w> {
    pub(crate) cx: &'a mut TaskContext<'w>,
    now: Option<Instant>,
}

impl<'a, 'w> Turn<'a, 'w> {
    pub(crate) fn new(cx: &'a mut TaskContext<'w>) -> Self {
        Self { cx, now: None }
    }

    /// The time of this turn.
    #[inline]
    pub(crate) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }
}
