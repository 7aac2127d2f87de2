//! What the attempts of the recent past say, and how sure one can be.

use std::time::Duration;

use tokio::time::Instant;

use super::ring::{BUCKET, BUCKETS, Key, Ring, index};

/// The furthest that a window looks back: 30 s.
pub(super) const STRETCH_MAX: Duration =
    Duration::from_millis(BUCKET.as_millis() as u64 * BUCKETS as u64);

/// One standard normal quantile: 99.5 % one-sided.
const Z: f64 = 2.58;

/// The outcomes of attempts, by when they settled.
///
/// Each belongs to an epoch of the breaker, and those of another count for
/// nothing: a window is emptied by beginning an epoch. It may be written to by
/// many threads, and read, at the same time.
#[derive(Debug)]
pub(super) struct Window {
    start: Instant,
    /// Buckets that it spans before it is stretched.
    within: usize,
    /// While it holds fewer attempts than this it is stretched back.
    enough: u32,
    successes: Ring,
    failures: Ring,
}

/// How many attempts succeeded, and how many failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) successes: u32,
    pub(super) failures: u32,
}

/// How many successes there were in the newest bucket at some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    index: u32,
    successes: u32,
}

impl Window {
    /// One that looks back for `length`, for who wants to be sure whether this
    /// `share` of attempts fails.
    pub(super) fn new(length: Duration, share: f64, now: Instant) -> Self {
        let buckets = length.as_millis().div_ceil(BUCKET.as_millis());
        Self {
            start: now,
            within: usize::try_from(buckets).unwrap_or(BUCKETS).max(1),
            enough: enough(share),
            successes: Ring::new(),
            failures: Ring::new(),
        }
    }

    /// Counts a success of `epoch`.
    #[inline]
    pub(super) fn success(&self, epoch: u64, now: Instant) {
        self.successes.count(Key::new(self.index(now), epoch));
    }

    /// Counts a failure of `epoch`.
    pub(super) fn failure(&self, epoch: u64, now: Instant) {
        self.failures.count(Key::new(self.index(now), epoch));
    }

    /// The outcomes of `epoch` in the window, stretched back until there are
    /// enough of them to say anything, or the past ends.
    pub(super) fn counts(&self, epoch: u64, now: Instant) -> Counts {
        let mut counts = Counts::default();
        for (age, index) in (0..=self.index(now)).rev().take(BUCKETS).enumerate() {
            if age >= self.within && counts.total() >= self.enough {
                break;
            }
            let key = Key::new(index, epoch);
            counts.add(Counts {
                successes: self.successes.get(key),
                failures: self.failures.get(key),
            });
        }
        counts
    }

    /// Whether it knows of `epoch` for half its length at least.
    ///
    /// In a shorter time it is not the upstream that one sees but what is
    /// quick: failures are often known at once, and the successes of the same
    /// moment are still under way.
    pub(super) fn is_half_full(&self, epoch: u64, now: Instant) -> bool {
        (0..=self.index(now))
            .rev()
            .take(BUCKETS)
            .skip(self.within / 2)
            .map(|index| Key::new(index, epoch))
            .any(|key| self.failures.get(key) > 0 || self.successes.get(key) > 0)
    }

    /// Whether a success of `epoch` came after `mark`, in the last 30 s, and the
    /// mark of this moment. Each count is read once: a success is before that,
    /// and seen now, or after, and seen next time.
    pub(super) fn succeeded_since(&self, mark: Mark, epoch: u64, now: Instant) -> (bool, Mark) {
        // Not back in time: two threads may look at the clock in one order and
        // come here in the other.
        let newest = self.index(now).max(mark.index);
        let mut succeeded = false;
        let mut next = Mark {
            index: newest,
            successes: 0,
        };
        for index in (mark.index..=newest).rev().take(BUCKETS) {
            let successes = self.successes.get(Key::new(index, epoch));
            let before = if index == mark.index {
                mark.successes
            } else {
                0
            };
            succeeded |= successes > before;
            if index == newest {
                next.successes = successes;
            }
        }
        (succeeded, next)
    }

    #[cfg(test)]
    pub(super) fn fork(&self) -> Self {
        Self {
            successes: self.successes.fork(),
            failures: self.failures.fork(),
            ..*self
        }
    }

    fn index(&self, now: Instant) -> u32 {
        index(now.saturating_duration_since(self.start))
    }
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

/// A few more attempts than it takes, when all of them fail, to be sure that
/// `share` of them do; 30 at least.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn enough(share: f64) -> u32 {
    // Where all fail, the lower end of the interval is n / (n + z²).
    let sure = Z * Z * share / (1.0 - share);
    (sure.ceil() as u32).saturating_add(3).max(30)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn enough_is_enough_to_be_sure_of_any_share() {
        assert_eq!([0.1, 0.8, 0.9, 0.99].map(enough), [30, 30, 63, 662]);
        for percent in 1..=99 {
            let share = f64::from(percent) / 100.0;
            let sure = counts(0, enough(share)).confident_failure_ratio();
            assert!(sure >= share, "{share}");
        }
    }

    #[test]
    fn eighty_percent_seen_is_not_eighty_percent_sure() {
        assert!(counts(20, 80).confident_failure_ratio() < 0.7);
        assert!(counts(200, 1000).confident_failure_ratio() > 0.8);
    }

    #[test]
    fn a_busy_window_holds_two_seconds() {
        let start = Instant::now();
        let window = Window::new(ms(2000), 0.8, start);
        for tick in 0..100 {
            let now = start + ms(tick * 100);
            if tick < 50 {
                window.failure(0, now);
            } else {
                window.success(0, now);
            }
        }
        // The last 2 s, in whole buckets, of ten attempts a second, would be
        // 20; the window stretches until it has 30.
        assert_eq!(window.counts(0, start + ms(9_900)), counts(30, 0));

        for _ in 0..100 {
            window.failure(0, start + ms(9_900));
        }
        assert_eq!(window.counts(0, start + ms(9_900)), counts(20, 100));
    }

    #[test]
    fn a_quiet_window_stretches_to_thirty_seconds_and_no_further() {
        let start = Instant::now();
        let window = Window::new(ms(2000), 0.8, start);
        for second in 0..60 {
            window.failure(0, start + ms(second * 1000));
        }
        assert_eq!(window.counts(0, start + ms(59_000)), counts(0, 30));
        assert_eq!(window.counts(0, start + ms(80_000)), counts(0, 9));
        assert_eq!(window.counts(0, start + ms(120_000)), counts(0, 0));
    }

    #[test]
    fn it_is_half_full_when_it_knows_of_half_its_length() {
        let start = Instant::now();
        for outcome in [Window::success, Window::failure] {
            let window = Window::new(ms(2000), 0.8, start);
            outcome(&window, 0, start + ms(300));
            outcome(&window, 0, start + ms(1_199));
            assert!(!window.is_half_full(0, start + ms(1_199)));
            assert!(window.is_half_full(0, start + ms(1_200)));
            assert!(window.is_half_full(0, start + ms(30_999)));
            assert!(!window.is_half_full(0, start + ms(31_000)), "long ago");
            assert!(!window.is_half_full(1, start + ms(1_200)));
        }
        // One that is no longer than a bucket has no half.
        let shortest = Window::new(ms(200), 0.8, start);
        shortest.failure(0, start);
        assert!(shortest.is_half_full(0, start));
    }

    #[test]
    fn in_another_epoch_it_knows_nothing() {
        let start = Instant::now();
        let window = Window::new(ms(2000), 0.8, start);
        window.failure(1, start);
        assert_eq!(window.counts(2, start), counts(0, 0));
        assert_eq!(window.counts(1, start), counts(0, 1));
    }

    #[test]
    fn a_success_after_the_mark_is_seen_wherever_it_falls() {
        let start = Instant::now();
        let window = Window::new(ms(2000), 0.8, start);
        window.success(0, start + ms(210));
        let (_, mark) = window.succeeded_since(Mark::default(), 0, start + ms(220));
        let since = |window: &Window, at| window.succeeded_since(mark, 0, start + ms(at));
        assert!(!since(&window, 25_000).0);
        // By a clock that was looked at before.
        assert_eq!(since(&window, 190), (false, mark));

        window.success(1, start + ms(230));
        assert!(!since(&window, 240).0, "of another epoch");
        for later in [230, 5_000] {
            let window = Window::new(ms(2000), 0.8, start);
            window.success(0, start + ms(210));
            window.success(0, start + ms(later));
            let (succeeded, next) = since(&window, 25_000);
            assert!(succeeded, "{later}");
            assert!(!window.succeeded_since(next, 0, start + ms(25_000)).0);
        }
    }

    proptest! {
        /// Against a list of all that there was, and the rule as it is written.
        #[test]
        fn it_counts_what_a_list_would(
            outcomes in prop::collection::vec((0_u64..3_000, any::<bool>()), 0..300),
            length in 1_u64..30_000,
            idle in 0_u64..40_000,
        ) {
            let start = Instant::now();
            let window = Window::new(ms(length), 0.8, start);
            let mut list = Vec::new();
            let mut now = 0;
            for (wait, failed) in outcomes {
                // Often at once, now and then after a while.
                now += wait.saturating_sub(2_000);
                if failed {
                    window.failure(0, start + ms(now));
                } else {
                    window.success(0, start + ms(now));
                }
                list.push((now / 200, failed));
            }
            let newest = (now + idle) / 200;
            let last = |buckets: u64| {
                let within = list.iter().filter(|(at, _)| newest - at < buckets);
                let failed = within.clone().filter(|(_, failed)| *failed).count();
                (within.count() - failed, failed)
            };
            let (successes, failures) = (length.div_ceil(200)..150)
                .map(last)
                .find(|(successes, failures)| successes + failures >= 30)
                .unwrap_or_else(|| last(150));
            let counted = window.counts(0, start + ms(now + idle));
            prop_assert_eq!(
                (counted.successes as usize, counted.failures as usize),
                (successes, failures)
            );
        }
    }
}
