//! Failures in a row.

use std::time::Duration;

use tokio::time::Instant;

use super::window::{Mark, STRETCH_MAX, Window};

/// Failures in a row, the last of which has just settled.
///
/// A success does not write here, as that would be one more thing that all
/// calls share: each failure looks whether the window holds a success that was
/// not there at the failure before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Run {
    length: u32,
    /// When the first of them settled.
    since: Option<Instant>,
    /// The successes that there were at the last of them.
    mark: Mark,
}

impl Run {
    /// One failure more, or the first of another run.
    pub(super) fn extend(&mut self, window: &Window, epoch: u64, now: Instant) {
        let (succeeded, mark) = window.succeeded_since(self.mark, epoch, now);
        // One that began too long ago does not count.
        let goes_on = self.since.is_some() && self.lasted(now) <= STRETCH_MAX && !succeeded;
        if goes_on {
            self.length = self.length.saturating_add(1);
        } else {
            self.length = 1;
            self.since = Some(now);
        }
        self.mark = mark;
    }

    /// Whether a success came after the last of them.
    #[cfg(test)]
    pub(super) fn is_broken(&self, window: &Window, epoch: u64, now: Instant) -> bool {
        window.succeeded_since(self.mark, epoch, now).0
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }

    /// Time since the first of them settled.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}
