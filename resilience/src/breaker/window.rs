//! What the attempts of the recent past say, and how sure one can be.

use std::{array, time::Duration};

use tokio::time::Instant;

/// How long one bucket lasts.
const BUCKET: Duration = Duration::from_millis(200);

/// Buckets: the window can be stretched this far.
const BUCKETS: usize = 150;

/// The furthest that a window looks back: 30 s.
pub(super) const STRETCH_MAX: Duration =
    Duration::from_millis(BUCKET.as_millis() as u64 * BUCKETS as u64);

/// While the window holds fewer attempts than this it is stretched back.
const ENOUGH: u32 = 30;

/// One standard normal quantile: 99.5 % one-sided.
const Z: f64 = 2.58;

/// Outcomes of attempts, in buckets of time.
#[derive(Debug)]
pub(super) struct Window {
    start: Instant,
    length: Duration,
    buckets: [Bucket; BUCKETS],
}

/// The outcomes of one stretch of time, the `index`th from the start.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    index: u64,
    counts: Counts,
}

/// How many attempts succeeded, and how many failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) successes: u32,
    pub(super) failures: u32,
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        Self {
            start: now,
            length,
            buckets: array::from_fn(|_| Bucket::default()),
        }
    }

    pub(super) fn record(&mut self, failure: bool, now: Instant) {
        let index = self.index(now);
        let bucket = &mut self.buckets[slot(index)];
        if bucket.index != index {
            *bucket = Bucket {
                index,
                counts: Counts::default(),
            };
        }
        let count = if failure {
            &mut bucket.counts.failures
        } else {
            &mut bucket.counts.successes
        };
        *count = count.saturating_add(1);
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(Bucket::default());
    }

    /// The outcomes of the window, stretched back until there are enough of
    /// them to say anything, or the past ends.
    pub(super) fn counts(&self, now: Instant) -> Counts {
        let newest = self.index(now);
        let within = self.length.as_millis().div_ceil(BUCKET.as_millis()).max(1);
        let mut counts = Counts::default();
        for (age, index) in (0..=newest).rev().take(BUCKETS).enumerate() {
            if age as u128 >= within && counts.total() >= ENOUGH {
                break;
            }
            let bucket = &self.buckets[slot(index)];
            if bucket.index == index {
                counts.add(bucket.counts);
            }
        }
        counts
    }

    fn index(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(elapsed / BUCKET.as_millis()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::cast_possible_truncation)] // less than BUCKETS
fn slot(index: u64) -> usize {
    (index % BUCKETS as u64) as usize
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.successes = self.successes.saturating_add(other.successes);
        self.failures = self.failures.saturating_add(other.failures);
    }

    fn total(self) -> u32 {
        self.successes.saturating_add(self.failures)
    }

    /// The share of failures; 0 when nothing is known.
    pub(super) fn failure_ratio(self) -> f64 {
        if self.total() == 0 {
            0.0
        } else {
            f64::from(self.failures) / f64::from(self.total())
        }
    }

    /// The share of failures that one can be confident of: the lower end of
    /// Wilson's score interval (Wilson 1927). It is well below the share that
    /// was seen when only few attempts were.
    pub(super) fn confident_failure_ratio(self) -> f64 {
        let n = f64::from(self.total());
        if n == 0.0 {
            return 0.0;
        }
        let p = self.failure_ratio();
        let z2 = Z * Z;
        let centre = p + z2 / (2.0 * n);
        let spread = Z * ((p * (1.0 - p) + z2 / (4.0 * n)) / n).sqrt();
        (centre - spread) / (1.0 + z2 / n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn counts(successes: u32, failures: u32) -> Counts {
        Counts {
            successes,
            failures,
        }
    }

    #[test]
    fn twenty_seven_failures_are_enough_to_be_sure_of_eighty_percent() {
        assert!(counts(0, 26).confident_failure_ratio() < 0.8);
        assert!(counts(0, 27).confident_failure_ratio() >= 0.8);
        assert_eq!(counts(0, 0).confident_failure_ratio(), 0.0);
    }

    #[test]
    fn eighty_percent_seen_is_not_eighty_percent_sure() {
        assert!(counts(20, 80).confident_failure_ratio() < 0.7);
        assert!(counts(200, 1000).confident_failure_ratio() > 0.8);
    }

    #[test]
    fn a_busy_window_holds_two_seconds() {
        let start = Instant::now();
        let mut window = Window::new(ms(2000), start);
        for tick in 0..100 {
            window.record(tick < 50, start + ms(tick * 100));
        }
        // The last 2 s, in whole buckets, of ten attempts a second, would be
        // 20; the window stretches until it has 30.
        assert_eq!(window.counts(start + ms(9_900)), counts(30, 0));

        for _ in 0..100 {
            window.record(true, start + ms(9_900));
        }
        assert_eq!(window.counts(start + ms(9_900)), counts(20, 100));
    }

    #[test]
    fn a_quiet_window_stretches_to_thirty_seconds_and_no_further() {
        let start = Instant::now();
        let mut window = Window::new(ms(2000), start);
        for second in 0..60 {
            window.record(true, start + ms(second * 1000));
        }
        assert_eq!(window.counts(start + ms(59_000)), counts(0, 30));
        assert_eq!(window.counts(start + ms(80_000)), counts(0, 9));
        assert_eq!(window.counts(start + ms(120_000)), counts(0, 0));
    }

    #[test]
    fn cleared_it_knows_nothing() {
        let start = Instant::now();
        let mut window = Window::new(ms(2000), start);
        window.record(true, start);
        window.clear();
        assert_eq!(window.counts(start), counts(0, 0));
    }
}
