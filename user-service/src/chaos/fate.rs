//! What happens to the nth call.
//!
//! A pure function of the faults and the number of the call: the same run of
//! bad luck each time, whatever the order in which calls are served, and with
//! nothing to lock. Every call throws all its dice, so that turning one fault on
//! or off does not change whom another one hits.

use std::time::Duration;

use fastrand::Rng;
use tonic::Code;

use super::faults::{Chaos, Share};

/// What happens to one call, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// It is left hanging until the faults change.
    pub(super) hang: bool,
    /// It waits so long.
    pub(super) latency: Option<Duration>,
    /// It fails.
    pub(super) error: Option<Code>,
}

impl Chaos {
    /// The fate of call number `call`, counted from when these faults were set.
    pub(super) fn fate(&self, call: u64) -> Fate {
        let mut dice = Rng::with_seed(scramble(self.seed.wrapping_add(scramble(call))));
        let mut hits = || {
            let thrown = dice.u32(0..Share::ALL.millionths());
            move |share: Share| thrown < share.millionths()
        };
        let (hang, error, delay) = (hits(), hits(), hits());
        let part = dice.f64();
        Fate {
            hang: self.hang.is_some_and(hang),
            latency: self
                .latency
                .filter(|latency| delay(latency.share))
                .map(|latency| latency.min + latency.max.saturating_sub(latency.min).mul_f64(part)),
            error: self
                .error
                .filter(|fault| error(fault.share))
                .map(|fault| fault.code),
        }
    }
}

/// Spreads numbers that lie side by side over all numbers (the finalizer of
/// SplitMix64): dice with neighbouring seeds would throw alike.
fn scramble(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: u64 = 100_000;

    fn fates(text: &str) -> Vec<Fate> {
        let chaos: Chaos = text.parse().unwrap();
        (0..CALLS).map(|call| chaos.fate(call)).collect()
    }

    fn share(fates: &[Fate], hit: impl Fn(&Fate) -> bool) -> f64 {
        fates.iter().filter(|fate| hit(fate)).count() as f64 / fates.len() as f64
    }

    #[test]
    fn the_same_faults_happen_to_the_same_calls_on_every_run() {
        assert_eq!(fates("flaky"), fates("error=0.3"));
        assert_ne!(fates("error=0.3,seed=1"), fates("error=0.3,seed=2"));
    }

    #[test]
    fn a_share_of_calls_is_hit_as_often_as_it_says() {
        let fates = fates("error=0.3:INTERNAL,hang=0.01,latency=50ms..150ms@0.5");
        let close = |found: f64, wanted: f64| (found - wanted).abs() < 0.006;

        assert!(close(
            share(&fates, |fate| fate.error == Some(Code::Internal)),
            0.3
        ));
        assert!(close(share(&fates, |fate| fate.hang), 0.01));
        assert!(close(share(&fates, |fate| fate.latency.is_some()), 0.5));
        // Independently of each other.
        assert!(close(
            share(&fates, |fate| fate.error.is_some()
                && fate.latency.is_some()),
            0.15
        ));
    }

    #[test]
    fn no_hundred_calls_in_a_row_have_very_different_luck() {
        let fates = fates("flaky");
        for calls in fates.chunks(100) {
            let failed = share(calls, |fate| fate.error.is_some());
            assert!((0.08..0.55).contains(&failed), "{failed}");
        }
    }

    #[test]
    fn delays_fill_their_range_and_stay_within_it() {
        let fates = fates("latency=50ms..150ms");
        let delays: Vec<Duration> = fates.iter().filter_map(|fate| fate.latency).collect();
        let (min, max) = (Duration::from_millis(50), Duration::from_millis(150));

        assert_eq!(delays.len(), fates.len());
        assert!(delays.iter().all(|delay| (min..=max).contains(delay)));
        let mean = delays.iter().sum::<Duration>() / u32::try_from(delays.len()).unwrap();
        assert!((98..102).contains(&mean.as_millis()), "{mean:?}");
    }

    #[test]
    fn all_is_all_and_none_is_none() {
        assert!(
            fates("down")
                .iter()
                .all(|fate| fate.error == Some(Code::Unavailable))
        );
        assert!(fates("hang").iter().all(|fate| fate.hang));
        assert!(fates("off").iter().all(|fate| {
            *fate
                == Fate {
                    hang: false,
                    latency: None,
                    error: None,
                }
        }));
    }

    #[test]
    fn one_fault_does_not_change_whom_another_one_hits() {
        let alone = fates("flaky");
        let together = fates("error=0.3,latency=1ms@0.1");
        let errors = |fates: &[Fate]| fates.iter().map(|fate| fate.error).collect::<Vec<_>>();
        assert_eq!(errors(&alone), errors(&together));
    }
}
