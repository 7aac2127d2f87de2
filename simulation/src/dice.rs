//! All the chance that there is, from one seed.
//!
//! The same seed must give the same run on another machine, to the last bit. So nothing here
//! calls the mathematical library, whose logarithms differ between platforms: only comparisons,
//! additions and multiplications, which IEEE 754 defines exactly.

use std::time::Duration;

/// Whose dice they are: each has its own, so that one more throw by one changes nothing for
/// the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// When a client calls.
    Arrivals,
    /// How long the server works, and which calls fail.
    Server,
    /// The jitter of backoff.
    Retry,
    /// The jitter of the breaker's open time.
    Breaker,
}

/// A seed for one `purpose` of number `index`, from the seed of the run.
#[must_use]
pub fn derive(seed: u64, purpose: Purpose, index: usize) -> u64 {
    let purpose = match purpose {
        Purpose::Arrivals => 1,
        Purpose::Server => 2,
        Purpose::Retry => 3,
        Purpose::Breaker => 4,
    };
    scramble(scramble(scramble(seed) ^ purpose) ^ index as u64)
}

/// SplitMix64 (Steele and others, 2014): neighbours come out unlike each other.
fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Dice that fall the same way whenever they have the same seed.
#[derive(Debug, Clone)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// Dice for one `purpose` of number `index` in the run of `seed`.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose, index: usize) -> Self {
        Self(fastrand::Rng::with_seed(derive(seed, purpose, index)))
    }

    /// True for this share of throws.
    pub fn chance(&mut self, share: f64) -> bool {
        self.0.f64() < share
    }

    /// Anything between the two.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.0.f64())
    }

    /// Exponentially distributed, as the gaps between independent arrivals are.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(self.unit_exponential())
    }

    /// Von Neumann's way (1951): by comparing uniform numbers, without a logarithm.
    ///
    /// A run of numbers that fall is counted; when its length is odd, the first of them is the
    /// fraction, and the runs before it that were even are the whole part.
    fn unit_exponential(&mut self) -> f64 {
        // Each round fails with a probability of 1/e: the bound is never met.
        const ROUNDS_MAX: u32 = 700;
        for whole in 0..ROUNDS_MAX {
            let first = self.0.f64();
            let mut last = first;
            let mut odd = true;
            loop {
                let next = self.0.f64();
                if next >= last {
                    break;
                }
                last = next;
                odd = !odd;
            }
            if odd {
                return f64::from(whole) + first;
            }
        }
        f64::from(ROUNDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_times_have_the_mean_and_the_spread_of_their_kind() {
        let mut dice = Dice::new(1, Purpose::Arrivals, 0);
        let count = 100_000;
        let draws: Vec<f64> = (0..count).map(|_| dice.unit_exponential()).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(count);
        let above = |limit: f64| draws.iter().filter(|draw| **draw > limit).count();
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        // 1/e and 1/e² of them.
        assert!((36_300..37_300).contains(&above(1.0)), "{}", above(1.0));
        assert!((13_200..13_900).contains(&above(2.0)), "{}", above(2.0));
    }

    #[test]
    fn the_same_seed_falls_the_same_way_and_every_purpose_its_own() {
        let throws = |seed, purpose, index| {
            let mut dice = Dice::new(seed, purpose, index);
            [(); 4].map(|()| dice.exponential(Duration::from_millis(20)))
        };
        let one = throws(7, Purpose::Server, 0);
        assert_eq!(one, throws(7, Purpose::Server, 0));
        // Known, so that another machine can be compared with this one.
        assert_eq!(
            one.map(|time| time.as_nanos()),
            [72_203_449, 2_338_172, 37_014_724, 9_215_592]
        );
        for other in [
            throws(8, Purpose::Server, 0),
            throws(7, Purpose::Arrivals, 0),
            throws(7, Purpose::Server, 1),
        ] {
            assert_ne!(one, other);
        }
    }
}
