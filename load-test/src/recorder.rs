//! Collects what happens while a run goes on, from many tasks at once.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    metrics::Meter,
    recording::{Call, Nap, percentile, success_share},
    scrape::Sample,
};

/// Collects calls and samples while the run goes on.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    meter: Meter,
    latest: Duration,
    calls: Mutex<Vec<Call>>,
    samples: Mutex<Vec<Sample>>,
    naps: Mutex<Vec<Nap>>,
}

/// What a person watching wants to know: the last second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recent {
    /// Calls that ended, in a second.
    pub rate: f64,
    /// How many of them succeeded, from 0 to 1.
    pub success: Option<f64>,
    /// Half of them were faster.
    pub p50: Option<Duration>,
    /// All but one of a hundred were faster.
    pub p99: Option<Duration>,
}

impl Recorder {
    /// Starts with nothing; `start` is the beginning of the first phase, and `latest` how long
    /// an answer may take. What happens is shown by `meter` at once.
    pub fn new(start: Instant, meter: Meter, latest: Duration) -> Self {
        Self {
            start,
            meter,
            latest,
            calls: Mutex::default(),
            samples: Mutex::default(),
            naps: Mutex::default(),
        }
    }

    /// A moment, as recordings count it.
    pub fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.start)
    }

    /// A call was started, so much later than it should have been.
    pub fn started(&self, late: Duration) {
        self.meter.started(late);
    }

    /// Adds a call that has ended.
    pub fn call(&self, call: Call) {
        self.meter.ended(&call, self.latest);
        lock(&self.calls).push(call);
    }

    /// Adds the order service's own figures.
    pub fn sample(&self, sample: Sample) {
        lock(&self.samples).push(sample);
    }

    /// Adds a sleep of the control.
    pub fn nap(&self, nap: Nap) {
        lock(&self.naps).push(nap);
    }

    /// The calls that ended in the second before `now`.
    pub fn recent(&self, now: Duration) -> Recent {
        let since = now.saturating_sub(Duration::from_secs(1));
        let calls = lock(&self.calls);
        let ended = |call: &&Call| call.intended + call.latency >= since;
        let recent: Vec<Call> = calls.iter().rev().take_while(ended).copied().collect();
        drop(calls);
        let span = (now - since).as_secs_f64().max(0.1);
        Recent {
            rate: recent.len() as f64 / span,
            success: success_share(&recent),
            p50: percentile(&recent, 50.0),
            p99: percentile(&recent, 99.0),
        }
    }

    /// How many of the calls of a stretch succeeded, among those that have ended by now.
    pub fn calls_between(&self, start: Duration, end: Duration) -> Vec<Call> {
        let calls = lock(&self.calls);
        let wanted = |call: &&Call| (start..end).contains(&call.intended);
        calls.iter().filter(wanted).copied().collect()
    }

    /// The newest of the order service's own figures.
    pub fn latest_sample(&self) -> Option<Sample> {
        lock(&self.samples).last().cloned()
    }

    /// Everything so far, in order.
    pub fn take(&self) -> (Vec<Call>, Vec<Sample>) {
        let mut calls = std::mem::take(&mut *lock(&self.calls));
        calls.sort_by_key(|call| call.intended);
        (calls, std::mem::take(&mut *lock(&self.samples)))
    }

    /// Every sleep of the control so far, in order.
    pub fn take_naps(&self) -> Vec<Nap> {
        std::mem::take(&mut *lock(&self.naps))
    }
}

/// A panic elsewhere leaves a vector that is still a vector.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Outcome;

    #[tokio::test(start_paused = true)]
    async fn the_last_second_holds_what_ended_in_it() {
        let recorder = Recorder::new(Instant::now(), Meter::silent(), Duration::from_secs(1));
        for (intended, outcome) in [
            (500, Outcome::Failed), // ends at 0.6 s: too long ago
            (1_950, Outcome::Created),
            (2_500, Outcome::Failed),
        ] {
            recorder.call(Call {
                intended: Duration::from_millis(intended),
                late: Duration::ZERO,
                latency: Duration::from_millis(100),
                outcome,
            });
        }
        let recent = recorder.recent(Duration::from_secs(3));
        assert_eq!(recent.rate, 2.0);
        assert_eq!(recent.success, Some(0.5));
    }
}
