//! Counts in buckets of time, in atomics.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How long one bucket lasts.
pub(super) const BUCKET: Duration = Duration::from_millis(MILLIS as u64);
const MILLIS: u32 = 200;
const PER_SECOND: u64 = 1000 / MILLIS as u64;

/// How many there are: 30 s.
pub(super) const BUCKETS: usize = 150;

/// Places for them: a power of two is cheaper to divide by.
const SLOTS: usize = BUCKETS.next_power_of_two();

/// The bucket of the moment that is `elapsed` after the start; good for 27
/// years.
#[expect(clippy::cast_possible_truncation)]
pub(super) fn index(elapsed: Duration) -> u32 {
    let buckets = elapsed.as_secs() * PER_SECOND + u64::from(elapsed.subsec_millis() / MILLIS);
    buckets as u32
}

/// A count per stretch of time, as far back as there are buckets.
///
/// It is written to by many threads at once, without a lock, and read while it
/// is. So each bucket is one word, which says by itself what it counts. A
/// writer changes it from what it has seen or not at all: what it counts can
/// never end up in a bucket that has meanwhile become another's.
#[derive(Debug)]
pub(super) struct Ring([AtomicU64; SLOTS]);

impl Ring {
    pub(super) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Counts one more; for nothing when the bucket is of a later time or epoch
    /// already.
    ///
    /// It can be in vain only as often as others succeed, and not for longer
    /// than a bucket lasts: after that, they count in another.
    ///
    /// The order in which others see two buckets change does not matter, for
    /// each says by itself what it counts: hence `Relaxed`.
    pub(super) fn count(&self, key: Key) {
        let bucket = &self.0[key.slot()];
        let _late = bucket.fetch_update(Relaxed, Relaxed, |word| {
            if key.is_of(word) {
                // A full one stays full: five million a second, for ever.
                let next = word.wrapping_add(1);
                (next & COUNT_MAX != 0).then_some(next)
            } else {
                key.is_after(word).then_some(key.0 | 1)
            }
        });
    }

    #[cfg(test)]
    pub(super) fn fork(&self) -> Self {
        Self(array::from_fn(|at| {
            AtomicU64::new(self.0[at].load(Relaxed))
        }))
    }

    pub(super) fn get(&self, key: Key) -> u32 {
        let word = self.0[key.slot()].load(Relaxed);
        if key.is_of(word) {
            (word & COUNT_MAX) as u32
        } else {
            0
        }
    }
}

/// What a bucket counts: the outcomes of one epoch in one stretch of time.
///
/// From the first bit on: the index of the bucket, the last bits of the epoch,
/// and zeros where a bucket's word has the count. Two epochs that look alike
/// are 4096 transitions apart, and a bucket is forgotten after 30 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_BITS: u32 = 12;
const EPOCH_MAX: u64 = (1 << EPOCH_BITS) - 1;

impl Key {
    pub(super) fn new(index: u32, epoch: u64) -> Self {
        let index = u64::from(index) << (EPOCH_BITS + COUNT_BITS);
        Self(index | (epoch & EPOCH_MAX) << COUNT_BITS)
    }

    /// Whether `word` counts this.
    fn is_of(self, word: u64) -> bool {
        self.0 ^ word <= COUNT_MAX
    }

    /// Whether it comes after what `word` counts: in time, or, in the same
    /// stretch of it, by epochs. These come round, and the shorter way round is
    /// the right one.
    fn is_after(self, word: u64) -> bool {
        let other = Self(word & !COUNT_MAX);
        let epochs = (self.0.wrapping_sub(other.0) >> COUNT_BITS) & EPOCH_MAX;
        self.index() > other.index()
            || (self.index() == other.index() && (1..=EPOCH_MAX / 2).contains(&epochs))
    }

    fn index(self) -> u32 {
        (self.0 >> (EPOCH_BITS + COUNT_BITS)) as u32
    }

    fn slot(self) -> usize {
        self.index() as usize % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_belongs_to_the_latest_that_counted_in_it() {
        let ring = Ring::new();
        let [before, key, later] = [
            Key::new(7, 1),
            Key::new(7, 2),
            Key::new(7 + SLOTS as u32, 1),
        ];
        ring.count(before);
        ring.count(key);
        ring.count(key);
        // Late: its bucket has become another's.
        ring.count(before);
        assert_eq!((ring.get(before), ring.get(key)), (0, 2));
        ring.count(later);
        ring.count(key);
        assert_eq!((ring.get(key), ring.get(later)), (0, 1));
    }

    #[test]
    fn epochs_may_come_round() {
        let ring = Ring::new();
        let keys = [4095, 4096, 4097].map(|epoch| Key::new(1, epoch));
        for key in keys {
            ring.count(key);
            assert_eq!(ring.get(key), 1);
        }
        ring.count(keys[0]);
        assert_eq!(keys.map(|key| ring.get(key)), [0, 0, 1]);
    }

    #[test]
    fn a_full_bucket_stays_full() {
        let ring = Ring::new();
        let key = Key::new(u32::MAX, u64::MAX);
        ring.0[key.slot()].store(key.0 | (COUNT_MAX - 1), Relaxed);
        for _ in 0..3 {
            ring.count(key);
        }
        assert_eq!(u64::from(ring.get(key)), COUNT_MAX);
    }

    #[test]
    fn a_bucket_lasts_two_hundred_milliseconds() {
        let ms = Duration::from_millis;
        assert_eq!(
            [0, 199, 200, 999, 1000, 30_000].map(|at| index(ms(at))),
            [0, 0, 1, 4, 5, 150]
        );
        assert_eq!(index(Duration::from_nanos(199_999_999)), 0);
    }
}
