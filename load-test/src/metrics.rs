//! The run's own metrics, for whoever watches it on a dashboard beside those of the services.
//!
//! They have a recorder of their own, as services that run in the same process use the one of
//! the process. This file holds all their names.

use std::time::Duration;

use metrics::{
    Counter, Gauge, counter, describe_counter, describe_gauge, gauge, with_local_recorder,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{
    figures::LATE,
    phases::{Kind, Phase, Phases},
    recording::{Call, Outcome},
};

/// The phase under way: 1 for it, 0 for the others.
const PHASE: &str = "load_test_phase";
/// Calls that were started.
const STARTED: &str = "load_test_calls_started_total";
/// Those of them that the generator started late: its own fault.
const STARTED_LATE: &str = "load_test_calls_started_late_total";
/// Calls that have ended, or were never started, by what came of them.
const CALLS: &str = "load_test_calls_total";
/// Answers that came later than they may.
const ANSWERED_LATE: &str = "load_test_calls_answered_late_total";

const OUTCOMES: [(Outcome, &str); 6] = [
    (Outcome::Created, "created"),
    (Outcome::Refused, "refused"),
    (Outcome::Failed, "failed"),
    (Outcome::Error, "error"),
    (Outcome::NoAnswer, "no_answer"),
    (Outcome::NotStarted, "not_started"),
];

/// Counts what happens. Everything that it counts exists from the start, at zero.
#[derive(Debug, Clone)]
pub struct Meter {
    phases: Vec<(Kind, Gauge)>,
    started: Counter,
    started_late: Counter,
    outcomes: [Counter; OUTCOMES.len()],
    answered_late: Counter,
}

impl Meter {
    /// Counts for nobody.
    pub fn silent() -> Self {
        Self {
            phases: Vec::new(),
            started: Counter::noop(),
            started_late: Counter::noop(),
            outcomes: OUTCOMES.map(|_| Counter::noop()),
            answered_late: Counter::noop(),
        }
    }

    /// Counts for whoever reads the page.
    pub fn new(planned: &Phases) -> (Self, PrometheusHandle) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let meter = with_local_recorder(&recorder, || Self::registered(planned));
        (meter, recorder.handle())
    }

    fn registered(planned: &Phases) -> Self {
        describe_gauge!(PHASE, "The phase of the load test: 1 for the one under way");
        describe_counter!(STARTED, "Calls that the load test has started");
        describe_counter!(
            STARTED_LATE,
            "Calls that the load test started more than 20 ms late: it did not keep up itself"
        );
        describe_counter!(CALLS, "Calls that have ended, by what came of them");
        describe_counter!(
            ANSWERED_LATE,
            "Answers later than the deadline of the order service and 50 ms"
        );
        let mut phases: Vec<(Kind, Gauge)> = Vec::new();
        for Phase { kind, .. } in planned.iter() {
            if phases.iter().all(|(known, _)| *known != kind) {
                phases.push((kind, gauge!(PHASE, "phase" => kind.key())));
            }
        }
        Self {
            phases,
            started: counter!(STARTED),
            started_late: counter!(STARTED_LATE),
            outcomes: OUTCOMES.map(|(_, name)| counter!(CALLS, "outcome" => name)),
            answered_late: counter!(ANSWERED_LATE),
        }
    }

    /// A phase is under way, or none.
    pub fn phase(&self, now: Option<Kind>) {
        for (kind, gauge) in &self.phases {
            gauge.set(f64::from(u8::from(now == Some(*kind))));
        }
    }

    /// A call was started, so much later than it should have been.
    pub fn started(&self, late: Duration) {
        self.started.increment(1);
        self.started_late.increment(u64::from(late > LATE));
    }

    /// A call has ended. `latest` is how long it may take.
    pub fn ended(&self, call: &Call, latest: Duration) {
        for ((outcome, _), counter) in OUTCOMES.iter().zip(&self.outcomes) {
            counter.increment(u64::from(call.outcome == *outcome));
        }
        self.answered_late
            .increment(u64::from(call.latency > latest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn value(page: &PrometheusHandle, series: &str) -> Option<f64> {
        let page = page.render();
        let mut lines = page.lines();
        lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn everything_is_there_from_the_start_at_zero() {
        let (_meter, page) = Meter::new(&Phases::standard());
        let text = page.render();
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let series = values.iter().filter(|line| !line.is_empty());
        // Nine kinds of phases, six outcomes, three counters.
        assert_eq!(series.clone().count(), 18, "{text}");
        assert!(series.clone().all(|line| line.ends_with(" 0")), "{text}");
        assert!(
            text.contains("load_test_phase{phase=\"errors-30\"} 0"),
            "{text}"
        );
    }

    #[test]
    fn one_phase_is_under_way_at_a_time_and_none_at_the_end() {
        let (meter, page) = Meter::new(&Phases::standard());
        let hang = "load_test_phase{phase=\"hang\"}";
        let sum = |page: &PrometheusHandle| {
            let text = page.render();
            let phases = text
                .lines()
                .filter(|line| line.starts_with("load_test_phase{"));
            phases.filter(|line| line.ends_with(" 1")).count()
        };
        meter.phase(Some(Kind::Slow));
        meter.phase(Some(Kind::Hang));
        assert_eq!((value(&page, hang), sum(&page)), (Some(1.0), 1));
        meter.phase(None);
        assert_eq!((value(&page, hang), sum(&page)), (Some(0.0), 0));
    }

    #[test]
    fn late_starts_are_told_from_late_answers() {
        let (meter, page) = Meter::new(&Phases::standard());
        meter.started(LATE);
        meter.started(LATE + MS);
        let call = |outcome, latency| Call {
            intended: Duration::ZERO,
            late: Duration::ZERO,
            latency,
            outcome,
        };
        meter.ended(&call(Outcome::Created, 50 * MS), 50 * MS);
        meter.ended(&call(Outcome::Failed, 51 * MS), 50 * MS);

        for (series, expected) in [
            (STARTED, 2.0),
            (STARTED_LATE, 1.0),
            (ANSWERED_LATE, 1.0),
            ("load_test_calls_total{outcome=\"created\"}", 1.0),
            ("load_test_calls_total{outcome=\"failed\"}", 1.0),
            ("load_test_calls_total{outcome=\"no_answer\"}", 0.0),
        ] {
            assert_eq!(value(&page, series), Some(expected), "{series}");
        }
    }
}
