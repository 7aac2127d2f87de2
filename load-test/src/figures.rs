//! What a recording adds up to: per phase, per slice of time, and for the generator itself.

use std::{fmt, time::Duration};

use report::words::short;

use crate::{
    recording::{Call, Outcome, Recording, Span, percentile, success_share},
    scrape::Sample,
};

/// How long a phase is left alone before its attempts are counted: until then, answers to
/// the attempts of the phase before it are still coming in.
const SETTLING: Duration = Duration::from_millis(500);
/// With fewer calls than this in a slice, one retry more or less is a spike.
const CALLS_PER_SLICE_MIN: usize = 10;
/// A call that starts later than this has been held up by the generator.
pub const LATE: Duration = Duration::from_millis(20);
/// More late calls than this, of all: the generator did not keep up.
const LATE_SHARE_MAX: f64 = 0.01;

/// One phase in figures.
#[derive(Debug, Clone)]
pub struct PhaseFigures {
    /// Which phase, and when.
    pub span: Span,
    /// Calls that should have started in it.
    pub calls: usize,
    /// How many of them succeeded, from 0 to 1.
    pub success: Option<f64>,
    /// How many of them succeeded no later than they had to, from 0 to 1.
    pub in_time: Option<f64>,
    /// The latter, in a second.
    pub goodput: f64,
    /// Half of the calls were faster.
    pub p50: Option<Duration>,
    /// All but five of a hundred were faster.
    pub p95: Option<Duration>,
    /// All but one of a hundred were faster.
    pub p99: Option<Duration>,
    /// The slowest call.
    pub slowest: Option<Duration>,
    /// Attempts sent to the user service, for each call.
    pub attempts_per_call: Option<f64>,
    /// Retries sent to the user service.
    pub retries: Option<f64>,
    /// How long the breaker was open or probing.
    pub open: Option<Duration>,
}

impl PhaseFigures {
    /// Adds up one phase. `latest` is how long an order may take to be of use.
    pub fn of(recording: &Recording, span: &Span, latest: Duration) -> Self {
        let calls = recording.calls_of(span);
        let in_time = in_time_share(calls, latest);
        let seconds = span.length().as_secs_f64().max(f64::EPSILON);
        Self {
            span: *span,
            calls: calls.len(),
            success: success_share(calls),
            in_time,
            goodput: in_time.unwrap_or(0.0) * calls.len() as f64 / seconds,
            p50: percentile(calls, 50.0),
            p95: percentile(calls, 95.0),
            p99: percentile(calls, 99.0),
            slowest: percentile(calls, 100.0),
            attempts_per_call: attempts_per_call(recording, span),
            retries: retries(recording, span),
            open: open(recording, span),
        }
    }

    /// Adds up every phase that was begun.
    pub fn all(recording: &Recording, latest: Duration) -> Vec<Self> {
        let spans = recording.spans.iter();
        spans
            .map(|span| Self::of(recording, span, latest))
            .collect()
    }
}

fn in_time(call: &Call, latest: Duration) -> bool {
    call.outcome == Outcome::Created && call.latency <= latest
}

fn in_time_share(calls: &[Call], latest: Duration) -> Option<f64> {
    let count = calls.iter().filter(|call| in_time(call, latest)).count();
    (!calls.is_empty()).then(|| count as f64 / calls.len() as f64)
}

/// Attempts sent to the user service for each call to it, refused calls included.
pub fn attempts_per_call(recording: &Recording, span: &Span) -> Option<f64> {
    let first = recording.sample_after(span.start + SETTLING.min(span.length() / 2))?;
    let last = recording.sample_before(span.end)?;
    attempts_for_each(&grown(recording, first, last)?)
}

/// The same, over all of a phase: from its very beginning to the first page after it.
pub fn attempts_per_call_in_all(recording: &Recording, span: &Span) -> Option<f64> {
    let first = recording.sample_before(span.start)?;
    let last = recording.sample_after(span.end)?;
    attempts_for_each(&grown(recording, first, last)?)
}

fn attempts_for_each(grown: &Sample) -> Option<f64> {
    (grown.calls > 0.0).then(|| grown.attempts / grown.calls)
}

/// What the counters have grown by; nothing, when they began anew in between.
fn grown(recording: &Recording, first: &Sample, last: &Sample) -> Option<Sample> {
    let known = !recording.restarted_between(first.at, last.at);
    known.then_some(Sample {
        at: last.at,
        calls: last.calls - first.calls,
        attempts: last.attempts - first.attempts,
        retries: last.retries - first.retries,
        open_seconds: last.open_seconds - first.open_seconds,
        breaker: last.breaker,
    })
}

/// Retries sent to the user service.
///
/// Counted from the last page before the phase to the first one after it: up to 0.1 s too
/// much on either side. A call's retries are counted when it ends, so those of calls that are
/// still under way then are missing, and those of calls from before the phase are in it.
pub fn retries(recording: &Recording, span: &Span) -> Option<f64> {
    let first = recording.sample_before(span.start)?;
    let last = recording.sample_after(span.end)?;
    Some(grown(recording, first, last)?.retries)
}

fn open(recording: &Recording, span: &Span) -> Option<Duration> {
    let first = recording.sample_before(span.start)?;
    let last = recording.sample_before(span.end)?;
    Duration::try_from_secs_f64(grown(recording, first, last)?.open_seconds).ok()
}

/// A short stretch of a run, as a plot shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The middle of it, in seconds.
    pub at: f64,
    /// Calls in a second that came to this end: see [`Slice::OUTCOMES`].
    pub per_second: [f64; 5],
    /// How many of the calls succeeded no later than they had to, in percent.
    pub in_time: Option<f64>,
    /// p50, p95 and p99, in milliseconds.
    pub latencies: [Option<f64>; 3],
    /// Attempts sent to the user service, for each call that was placed.
    pub attempts_per_call: Option<f64>,
}

impl Slice {
    /// The order of `per_second`, for people.
    pub const OUTCOMES: [&str; 5] = [
        "created",
        "created too late",
        "refused at once",
        "failed",
        "no answer",
    ];
    /// The order of `latencies`.
    pub const PERCENTILES: [f64; 3] = [50.0, 95.0, 99.0];
}

/// Cuts a run into at most 200 slices of half a second or more.
pub fn slices(recording: &Recording, latest: Duration) -> Vec<Slice> {
    let total = recording.length();
    let halves = (total.as_secs_f64() / 200.0 / 0.5).ceil().max(1.0);
    let width = Duration::from_millis(500).mul_f64(halves);
    let count = (total.as_secs_f64() / width.as_secs_f64()).ceil() as u32;
    (0..count)
        .map(|index| {
            let start = width * index;
            slice(recording, start, (start + width).min(total), latest)
        })
        // The last one may be too narrow to say anything.
        .filter(|(length, _)| *length * 2 > width)
        .map(|(_, slice)| slice)
        .collect()
}

fn slice(
    recording: &Recording,
    start: Duration,
    end: Duration,
    latest: Duration,
) -> (Duration, Slice) {
    let calls = recording.calls_between(start, end);
    let seconds = (end - start).as_secs_f64();
    let mut per_second = [0.0; 5];
    for call in calls {
        let index = match call.outcome {
            Outcome::Created if in_time(call, latest) => 0,
            Outcome::Created => 1,
            Outcome::Refused => 2,
            Outcome::Failed | Outcome::Error => 3,
            Outcome::NoAnswer => 4,
            Outcome::NotStarted => continue,
        };
        per_second[index] += 1.0 / seconds;
    }
    let millis = |latency: Duration| latency.as_secs_f64() * 1e3;
    let slice = Slice {
        at: (start + end).as_secs_f64() / 2.0,
        per_second,
        in_time: in_time_share(calls, latest).map(|share| share * 100.0),
        latencies: Slice::PERCENTILES.map(|percent| percentile(calls, percent).map(millis)),
        attempts_per_call: attempts_between(recording, start, end)
            .filter(|_| calls.len() >= CALLS_PER_SLICE_MIN)
            .map(|attempts| attempts / calls.len() as f64),
    };
    (end - start, slice)
}

/// Attempts sent, from the pages nearest to the bounds.
fn attempts_between(recording: &Recording, start: Duration, end: Duration) -> Option<f64> {
    let first = recording.sample_before(start)?;
    let last = recording.sample_before(end)?;
    Some(grown(recording, first, last)?.attempts)
}

/// How well the generator kept to its own schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pacing {
    /// All but one of a hundred calls started less late than this.
    pub late_p99: Duration,
    /// The latest start.
    pub late_max: Duration,
    /// Calls that the generator held up, of all.
    pub held_up: usize,
    /// Calls that were not started, because too many were open.
    pub not_started: usize,
    /// True when the figures say more about the generator than about the services.
    pub bottleneck: bool,
}

impl Pacing {
    /// Looks at how late calls started.
    pub fn of(calls: &[Call]) -> Self {
        let mut lates: Vec<Duration> = calls.iter().map(|call| call.late).collect();
        lates.sort_unstable();
        let rank = (lates.len() as f64 * 0.99).ceil() as usize;
        let held_up = lates.len() - lates.partition_point(|late| *late <= LATE);
        let not_started = calls
            .iter()
            .filter(|call| call.outcome == Outcome::NotStarted)
            .count();
        Self {
            late_p99: lates
                .get(rank.saturating_sub(1))
                .copied()
                .unwrap_or_default(),
            late_max: lates.last().copied().unwrap_or_default(),
            held_up,
            not_started,
            bottleneck: not_started > 0 || held_up as f64 > lates.len() as f64 * LATE_SHARE_MAX,
        }
    }
}

/// For people: how late calls started.
impl fmt::Display for Pacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "starts: 99 of 100 calls less than {} late, the latest {}; {} more than {} late, {} \
             not started",
            short(self.late_p99),
            short(self.late_max),
            self.held_up,
            short(LATE),
            self.not_started
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{made_up::Script, phases::Kind};

    #[test]
    fn a_phase_adds_up() {
        let recording = Script::new()
            .phase(Kind::Steady, 4, |_| (Outcome::Created, 10))
            .phase(Kind::Errors(10), 8, |index| match index % 100 {
                0 => (Outcome::Failed, 400),
                1 => (Outcome::Created, 350),
                nth if nth < 10 => (Outcome::Created, 60),
                _ => (Outcome::Created, 20),
            })
            .attempts_per_call(1.11)
            .recording();
        let figures = PhaseFigures::all(&recording, Duration::from_millis(300));
        assert_eq!(figures.len(), 2);
        assert_eq!(figures[1].calls, 1_600);
        assert_eq!(figures[1].success, Some(0.99));
        assert_eq!(figures[1].in_time, Some(0.98));
        assert_eq!(figures[1].goodput, 196.0);
        assert_eq!(figures[1].p50, Some(Duration::from_millis(20)));
        assert_eq!(figures[1].p95, Some(Duration::from_millis(60)));
        assert_eq!(figures[1].slowest, Some(Duration::from_millis(400)));
        let attempts = figures[1].attempts_per_call.unwrap();
        assert!((attempts - 1.11).abs() < 1e-9, "{attempts}");
    }

    #[test]
    fn without_samples_the_figures_that_need_them_are_absent() {
        let mut recording = Script::new()
            .phase(Kind::Down, 4, |_| (Outcome::Refused, 1))
            .recording();
        recording.samples = Err("not there".to_owned());
        let figures = &PhaseFigures::all(&recording, Duration::from_secs(1))[0];
        assert_eq!(figures.attempts_per_call, None);
        assert_eq!(figures.retries, None);
        assert_eq!(figures.open, None);
        assert_eq!(figures.success, Some(0.0));
    }

    #[test]
    fn counters_that_began_anew_give_no_figures() {
        let mut recording = Script::new()
            .phase(Kind::Steady, 4, |_| (Outcome::Created, 2))
            .phase(Kind::Errors(30), 4, |_| (Outcome::Created, 2))
            .attempts_per_call(1.4)
            .phase(Kind::Steady, 4, |_| (Outcome::Created, 2))
            .recording();
        recording.restart_order_service(Duration::from_secs(5));
        let figures = PhaseFigures::all(&recording, Duration::from_secs(1));
        assert_eq!(figures[1].attempts_per_call, None);
        assert_eq!(figures[1].retries, None);
        assert_eq!(figures[1].open, None);
        assert!(figures[0].attempts_per_call.is_some() && figures[0].retries.is_some());
        assert!(figures[2].attempts_per_call.is_some() && figures[2].retries.is_some());
    }

    #[test]
    fn slices_cover_the_run_and_stay_few_however_long_it_is() {
        let run = |seconds| {
            let recording = Script::new()
                .phase(Kind::Steady, seconds, |_| (Outcome::Created, 5))
                .recording();
            slices(&recording, Duration::from_secs(1))
        };
        let short = run(4);
        assert_eq!(short.len(), 8);
        assert_eq!(short[0].at, 0.25);
        assert_eq!(short[7].per_second, [200.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(short[7].in_time, Some(100.0));
        assert_eq!(short[7].attempts_per_call, Some(1.0));
        assert!(run(600).len() <= 200);
        assert!(run(0).is_empty());
    }

    #[test]
    fn a_generator_that_falls_behind_says_so() {
        let calls = |late_ms: u64, late_calls: usize| -> Vec<Call> {
            (0..1_000)
                .map(|index| Call {
                    intended: Duration::from_millis(index as u64 * 5),
                    late: Duration::from_millis(if index < late_calls { late_ms } else { 1 }),
                    latency: Duration::from_millis(50),
                    outcome: Outcome::Created,
                })
                .collect()
        };
        assert!(!Pacing::of(&calls(500, 10)).bottleneck);
        let behind = Pacing::of(&calls(500, 11));
        assert!(behind.bottleneck);
        assert_eq!(
            behind.to_string(),
            "starts: 99 of 100 calls less than 500 ms late, the latest 500 ms; 11 more than 20 ms \
             late, 0 not started"
        );
        assert!(!Pacing::of(&calls(20, 1_000)).bottleneck);
        assert_eq!(
            Pacing::of(&calls(500, 10)).late_max,
            Duration::from_millis(500)
        );
        assert_eq!(
            Pacing::of(&calls(500, 10)).late_p99,
            Duration::from_millis(1)
        );

        let mut refused = calls(1, 0);
        refused[3].outcome = Outcome::NotStarted;
        assert!(Pacing::of(&refused).bottleneck);
        assert!(!Pacing::of(&[]).bottleneck);
    }
}
