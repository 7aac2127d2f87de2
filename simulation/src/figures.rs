//! What a run adds up to.

use std::time::Duration;

use crate::{
    recording::{Recording, SLICE, Slice},
    script::Script,
};

/// A run is well from a moment on when this share of the calls that begin in the next
/// [`WATCHED`] are answered.
pub const WELL: f64 = 0.99;
/// How long a run must be well to have recovered.
pub const WATCHED: Duration = Duration::from_secs(5);

/// The figures of one run, from the beginning of the fault on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Calls.
    pub calls: u64,
    /// The share of them that was answered, 0 to 1.
    pub answered: f64,
    /// Attempts for each call.
    pub attempts: f64,
    /// How long after the end of the fault it had recovered; `None` if it had not when the run
    /// was over, or if the script's fault has no end.
    pub recovered: Option<Duration>,
    /// The time within which 99 % of the calls that were answered were.
    pub p99: Duration,
    /// The longest that any caller waited, in the whole run.
    pub longest: Duration,
    /// Calls that were never answered, in the whole run.
    pub unanswered: u32,
}

impl Figures {
    /// Of a run of `script`.
    #[must_use]
    pub fn of(recording: &Recording, script: &Script) -> Self {
        let slices = recording.between(script.begins, script.length);
        let calls = total(slices, |slice| slice.calls);
        let share = |number: u64| number as f64 / calls.max(1) as f64;
        // Attempts of calls that began before the end come a little after it.
        let attempts = recording.between(script.begins, Duration::MAX);
        Self {
            calls,
            answered: share(total(slices, |slice| slice.ok)),
            attempts: share(total(attempts, |slice| slice.attempts)),
            recovered: script
                .over
                .and_then(|over| recovered(recording, over, script.length)),
            p99: p99(recording, script.begins),
            longest: recording.longest,
            unanswered: recording.unanswered,
        }
    }
}

fn total(slices: &[Slice], of: impl Fn(&Slice) -> u32) -> u64 {
    slices.iter().map(|slice| u64::from(of(slice))).sum()
}

/// How long after `over` everything was well, and stayed so for a while.
fn recovered(recording: &Recording, over: Duration, end: Duration) -> Option<Duration> {
    let mut from = over;
    while from + WATCHED <= end {
        let slices = recording.between(from, from + WATCHED);
        let calls = total(slices, |slice| slice.calls);
        let ok = total(slices, |slice| slice.ok);
        if ok as f64 >= WELL * calls as f64 {
            return Some(from - over);
        }
        from += SLICE;
    }
    None
}

fn p99(recording: &Recording, begins: Duration) -> Duration {
    let mut took: Vec<u32> = recording
        .took
        .iter()
        .filter(|(began, _)| u128::from(*began) >= begins.as_millis())
        .map(|(_, took)| *took)
        .collect();
    if took.is_empty() {
        return Duration::ZERO;
    }
    let index = (took.len() - 1) * 99 / 100;
    let (_, millis, _) = took.select_nth_unstable(index);
    Duration::from_millis(u64::from(*millis))
}

/// Of several runs, the one in the middle and the worst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread<T> {
    /// In the middle; of an even number, the better of the two.
    pub median: T,
    /// The worst.
    pub worst: T,
}

impl<T: Copy> Spread<T> {
    /// Of `values`, of which there is at least one; `worse` says whether the first is worse than
    /// the second.
    pub fn of(values: impl IntoIterator<Item = T>, worse: impl Fn(&T, &T) -> bool) -> Option<Self> {
        let mut values: Vec<T> = values.into_iter().collect();
        values.sort_by(|a, b| match (worse(a, b), worse(b, a)) {
            (true, _) => std::cmp::Ordering::Greater,
            (_, true) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Equal,
        });
        Some(Self {
            median: *values.get((values.len().checked_sub(1)?) / 2)?,
            worst: *values.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Ending, Recorder};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// 100 calls a second for 30 s, of which those that begin in the fault fail.
    fn recording(fails: impl Fn(Duration) -> bool) -> Recording {
        let recorder = Recorder::default();
        for call in 0..3000 {
            let began = ms(10 * call);
            recorder.call(began);
            recorder.attempt(began);
            let (took, ending) = match fails(began) {
                true => (ms(2), Ending::Failed),
                false => (ms(call % 100), Ending::Ok),
            };
            recorder.ended(began, took, ending);
        }
        recorder.take()
    }

    #[test]
    fn figures_begin_with_the_fault() {
        let script = Script::named("capacity-75").unwrap();
        let fault = |at: Duration| at >= ms(5_000) && at < ms(12_500);
        let figures = Figures::of(&recording(fault), &script);
        assert_eq!(figures.calls, 2500);
        assert!((figures.answered - 0.7).abs() < 1e-9);
        assert!((figures.attempts - 1.0).abs() < 1e-9);
        // 5 of 500 may fail.
        assert_eq!(figures.recovered, Some(ms(2_500)));
        assert_eq!(figures.p99, ms(98));
    }

    #[test]
    fn what_goes_on_failing_has_not_recovered() {
        let script = Script::named("capacity-75").unwrap();
        let one_in_fifty = |at: Duration| at >= ms(5_000) && at.as_millis().is_multiple_of(500);
        let figures = Figures::of(&recording(one_in_fifty), &script);
        assert_eq!(figures.recovered, None);
    }

    #[test]
    fn a_spread_shows_the_middle_and_the_worst() {
        let spread = Spread::of([3, 1, 2], |a, b| a > b).unwrap();
        assert_eq!((spread.median, spread.worst), (2, 3));
        let spread = Spread::of([3, 1, 2], |a, b| a < b).unwrap();
        assert_eq!((spread.median, spread.worst), (2, 1));
        assert_eq!(Spread::of([0_u8; 0], |a, b| a > b), None);
    }
}
