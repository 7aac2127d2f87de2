//! What happened during a run: plain data, which everything that judges or draws reads.
//!
//! All times are counted from the start of the first phase.

use std::time::Duration;

use crate::{
    phases::{Kind, Phase},
    scrape::Sample,
};

/// Everything that was seen in one run.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Which client the order service used.
    pub client: Client,
    /// The phases that were to be walked.
    pub planned: Vec<Phase>,
    /// The phases that were begun. A prefix of the planned ones.
    pub spans: Vec<Span>,
    /// Every call, in the order of the intended starts.
    pub calls: Vec<Call>,
    /// The order service's own figures, oldest first; or why there are none.
    pub samples: Result<Vec<Sample>, String>,
    /// What this machine made of short sleeps meanwhile, oldest first.
    pub naps: Vec<Nap>,
    /// How it ended.
    pub ending: Ending,
}

/// One sleep of the control, which does nothing else: what the machine adds to it, it adds to
/// the services too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nap {
    /// When it began.
    pub at: Duration,
    /// How long it took. It was to take as long as an answer does in a brown-out.
    pub took: Duration,
}

/// How the order service asks the user service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Through the resilient client.
    Resilient,
    /// Through tonic alone, for comparison.
    Plain,
}

/// Why a recording ends where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Every phase was walked to its end.
    Complete,
    /// A person stopped it.
    Interrupted,
    /// A phase could not be brought about.
    Broken(String),
}

/// When a phase began and ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// What it was.
    pub kind: Kind,
    /// When the change was asked for: the fault may begin a moment later.
    pub start: Duration,
    /// When the next change was asked for, or the run ended.
    pub end: Duration,
    /// False when the run ended in the middle of it.
    pub complete: bool,
}

impl Span {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }
}

/// One call, from the moment it should have started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// When the schedule wanted it to start.
    pub intended: Duration,
    /// How much later it did.
    pub late: Duration,
    /// From the intended start to the answer, or to giving up.
    pub latency: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// gRPC OK and status CREATED. The only success.
    Created,
    /// The order service answered that it did not even ask the user service.
    Refused,
    /// The order service answered that it asked, and that this failed.
    Failed,
    /// The call to the order service itself failed.
    Error,
    /// No answer came for so long that the generator gave up.
    NoAnswer,
    /// The generator had too many calls open already. Nothing was sent.
    NotStarted,
}

impl Recording {
    /// The calls that should have started within these bounds.
    pub fn calls_between(&self, start: Duration, end: Duration) -> &[Call] {
        let from = self.calls.partition_point(|call| call.intended < start);
        let to = self.calls.partition_point(|call| call.intended < end);
        &self.calls[from..to.max(from)]
    }

    /// The calls of a phase.
    pub fn calls_of(&self, span: &Span) -> &[Call] {
        self.calls_between(span.start, span.end)
    }

    /// The last of the order service's figures at or before a moment.
    pub fn sample_before(&self, at: Duration) -> Option<&Sample> {
        let samples = self.samples.as_deref().ok()?;
        let after = samples.partition_point(|sample| sample.at <= at);
        samples[..after].last()
    }

    /// The first of the order service's figures at or after a moment.
    pub fn sample_after(&self, at: Duration) -> Option<&Sample> {
        let samples = self.samples.as_deref().ok()?;
        samples.get(samples.partition_point(|sample| sample.at < at))
    }

    /// Whether the order service was started again between two moments: then its counters have
    /// begun anew, and what they have grown by is not known.
    pub fn restarted_between(&self, first: Duration, last: Duration) -> bool {
        let samples = self.samples.as_deref().unwrap_or_default();
        let from = samples.partition_point(|sample| sample.at < first);
        let to = samples.partition_point(|sample| sample.at <= last);
        let within = &samples[from..to.max(from)];
        let fell = |pair: &[Sample]| pair[1].began_anew_after(&pair[0]);
        within.windows(2).any(fell)
    }

    /// How long the naps of a phase took on average.
    pub fn nap_of(&self, span: &Span) -> Option<Duration> {
        let naps = self
            .naps
            .iter()
            .filter(|nap| (span.start..span.end).contains(&nap.at));
        let (count, total) = naps.fold((0, Duration::ZERO), |(count, total), nap| {
            (count + 1, total + nap.took)
        });
        total.checked_div(count)
    }

    /// When the last phase ended.
    pub fn length(&self) -> Duration {
        self.spans.last().map_or(Duration::ZERO, |span| span.end)
    }
}

/// How many of the calls succeeded, from 0 to 1; nothing when there were none.
pub fn success_share(calls: &[Call]) -> Option<f64> {
    let created = calls
        .iter()
        .filter(|call| call.outcome == Outcome::Created)
        .count();
    (!calls.is_empty()).then(|| created as f64 / calls.len() as f64)
}

/// The latency that this share of the calls did not exceed (nearest rank).
///
/// Calls that were never started have no latency.
pub fn percentile(calls: &[Call], percent: f64) -> Option<Duration> {
    let mut latencies: Vec<Duration> = calls
        .iter()
        .filter(|call| call.outcome != Outcome::NotStarted)
        .map(|call| call.latency)
        .collect();
    let rank = (latencies.len() as f64 * percent / 100.0).ceil() as usize;
    let index = rank.clamp(1, latencies.len().max(1)) - 1;
    (!latencies.is_empty()).then(|| *latencies.select_nth_unstable(index).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(latency: u64, outcome: Outcome) -> Call {
        Call {
            intended: Duration::from_millis(latency),
            late: Duration::ZERO,
            latency: Duration::from_millis(latency),
            outcome,
        }
    }

    #[test]
    fn a_percentile_is_the_latency_of_a_call_that_happened() {
        let calls: Vec<_> = (1..=200).map(|ms| call(ms, Outcome::Created)).collect();
        assert_eq!(percentile(&calls, 50.0), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&calls, 99.0), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&calls, 100.0), Some(Duration::from_millis(200)));
        assert_eq!(percentile(&calls[..1], 1.0), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn a_call_that_never_started_is_no_success_and_has_no_latency() {
        let calls = [call(10, Outcome::Created), call(0, Outcome::NotStarted)];
        assert_eq!(success_share(&calls), Some(0.5));
        assert_eq!(percentile(&calls, 1.0), Some(Duration::from_millis(10)));
    }
}
