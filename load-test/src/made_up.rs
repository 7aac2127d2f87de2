//! Recordings of runs that never happened, for tests.

use std::time::{Duration, SystemTime};

use crate::{
    claims::Terms,
    phases::{BROWNOUT_LATENCY, Kind, Phase, Phases},
    recording::{Call, Client, Ending, Nap, Outcome, Recording, Span},
    results::{Judged, Results},
    scrape::{BreakerState, EVERY, Sample},
    settings::{Place, Plan},
};

const RATE: u64 = 200;

/// Phases with what happened in them. Times are given from the start of the last phase added.
pub(crate) struct Script {
    phases: Vec<Made>,
}

struct Made {
    span: Span,
    calls: Vec<Call>,
    attempts_per_call: f64,
    retries: f64,
    breaker: Vec<(Duration, Duration, BreakerState)>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self { phases: Vec::new() }
    }

    /// Adds a phase of 200 calls a second. `call` gives each call's outcome, and its latency
    /// in milliseconds.
    pub(crate) fn phase(
        mut self,
        kind: Kind,
        seconds: u64,
        call: impl Fn(u64) -> (Outcome, u64),
    ) -> Self {
        let start = self
            .phases
            .last()
            .map_or(Duration::ZERO, |made| made.span.end);
        let calls = (0..seconds * RATE).map(|index| {
            let (outcome, latency) = call(index);
            Call {
                intended: start + Duration::from_secs(1) * index as u32 / RATE as u32,
                late: Duration::ZERO,
                latency: Duration::from_millis(latency),
                outcome,
            }
        });
        self.phases.push(Made {
            span: Span {
                kind,
                start,
                end: start + Duration::from_secs(seconds),
                complete: true,
            },
            calls: calls.collect(),
            attempts_per_call: 1.0,
            retries: 0.0,
            breaker: Vec::new(),
        });
        self
    }

    /// Those beyond the first are retries, unless [`retries`](Self::retries) says otherwise.
    pub(crate) fn attempts_per_call(mut self, attempts: f64) -> Self {
        let made = self.last();
        made.attempts_per_call = attempts;
        made.retries = (attempts - 1.0).max(0.0) * made.calls.len() as f64;
        self
    }

    pub(crate) fn retries(mut self, retries: f64) -> Self {
        self.last().retries = retries;
        self
    }

    /// The breaker is in this state between two moments (in milliseconds), else closed.
    pub(crate) fn breaker(mut self, from: u64, to: u64, state: BreakerState) -> Self {
        let start = self.last().span.start;
        let [from, to] = [from, to].map(|ms| start + Duration::from_millis(ms));
        self.last().breaker.push((from, to, state));
        self
    }

    fn last(&mut self) -> &mut Made {
        self.phases.last_mut().expect("a phase was added before")
    }

    pub(crate) fn recording(self) -> Recording {
        let end = self
            .phases
            .last()
            .map_or(Duration::ZERO, |made| made.span.end);
        let count = end.as_millis() / EVERY.as_millis() + 2;
        let naps = (0..end.as_millis() / BROWNOUT_LATENCY.as_millis()).map(|index| Nap {
            at: BROWNOUT_LATENCY * index as u32,
            took: BROWNOUT_LATENCY,
        });
        let samples = (0..count).map(|index| self.sample(EVERY * index as u32));
        Recording {
            client: Client::Resilient,
            samples: Ok(samples.collect()),
            naps: naps.collect(),
            planned: self.phases.iter().map(|made| planned(&made.span)).collect(),
            spans: self.phases.iter().map(|made| made.span).collect(),
            calls: self
                .phases
                .into_iter()
                .flat_map(|made| made.calls)
                .collect(),
            ending: Ending::Complete,
        }
    }

    fn sample(&self, at: Duration) -> Sample {
        let mut sample = Sample {
            at,
            breaker: Some(BreakerState::Closed),
            ..Sample::default()
        };
        for made in &self.phases {
            let elapsed = at.saturating_sub(made.span.start).min(made.span.length());
            let part = elapsed.as_secs_f64() / made.span.length().as_secs_f64().max(1e-9);
            let calls = made.calls.len() as f64 * part;
            sample.calls += calls;
            sample.attempts += calls * made.attempts_per_call;
            sample.retries += made.retries * part;
            for (from, to, state) in &made.breaker {
                if *state != BreakerState::Closed {
                    let spent = at.clamp(*from, *to) - *from;
                    sample.open_seconds += spent.as_secs_f64();
                }
                if (*from..*to).contains(&at) {
                    sample.breaker = Some(*state);
                }
            }
        }
        sample
    }
}

impl Recording {
    /// From that moment on, the order service's counters are those of another process.
    pub(crate) fn restart_order_service(&mut self, at: Duration) {
        let samples = self.samples.as_mut().expect("a script has samples");
        let from = samples.partition_point(|sample| sample.at < at);
        let ended = samples[from].clone();
        for sample in &mut samples[from..] {
            sample.calls -= ended.calls;
            sample.attempts -= ended.attempts;
            sample.retries -= ended.retries;
            sample.open_seconds -= ended.open_seconds;
        }
    }
}

fn planned(span: &Span) -> Phase {
    Phase {
        kind: span.kind,
        length: span.length(),
    }
}

/// Results of a made-up run, and of one with tonic alone.
pub(crate) fn results(resilient: Recording, plain: Option<Recording>) -> Results {
    let terms = Terms {
        deadline: Duration::from_secs(1),
        budget_capacity: 20,
    };
    Results {
        plan: Plan {
            rate: RATE as u32,
            phases: Phases::standard(),
            seed: 7,
            compare: plain.is_some(),
            place: Place::Embedded,
        },
        terms,
        began: SystemTime::UNIX_EPOCH,
        resilient: Judged::new(resilient, &terms),
        plain: plain.map(|plain| Judged::new(plain, &terms)),
        settings: Vec::new(),
    }
}
