//! Starts calls on schedule, whatever becomes of the earlier ones (an open loop).
//!
//! A generator that waits for answers slows down together with the service it measures, and
//! the worst moments are the ones in which it asks least. Here the schedule stands, latency
//! counts from the moment at which a call *should* have started, and how far the generator
//! itself fell behind is written down beside it.
//!
//! Everything is bounded: a call is given up after [`Limits::give_up`], and no more than
//! [`Limits::in_flight_max`] are open at once; a call beyond that is recorded as not started.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::Instant};

use crate::{
    recorder::Recorder,
    recording::{Call, Outcome},
};

/// When calls start: evenly, from `start` on.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// When the first one does.
    pub start: Instant,
    /// How many do in a second. Zero means none ever.
    pub rate: u32,
}

impl Schedule {
    /// When a call should start. Computed from its number, so that errors do not add up.
    pub fn intended(&self, index: u64) -> Instant {
        let nanos = u128::from(index) * 1_000_000_000 / u128::from(self.rate.max(1));
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What keeps a run finite.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an answer is waited for, from the intended start.
    pub give_up: Duration,
    /// How many calls may be open at once.
    pub in_flight_max: u32,
}

impl Default for Limits {
    /// # Defaults
    /// - `give_up` 3 s: well above every deadline, so that a late answer is seen to be late.
    /// - `in_flight_max` 20,000: 100 seconds of calls at the usual rate; some 200 MB.
    fn default() -> Self {
        Self {
            give_up: Duration::from_secs(3),
            in_flight_max: 20_000,
        }
    }
}

/// Starts calls and records what becomes of them.
#[derive(Debug, Clone)]
pub struct Generator {
    schedule: Schedule,
    limits: Limits,
    recorder: Arc<Recorder>,
    slots: Arc<Semaphore>,
}

impl Generator {
    /// Starts nothing yet.
    pub fn new(schedule: Schedule, limits: Limits, recorder: Arc<Recorder>) -> Self {
        Self {
            schedule,
            limits,
            recorder,
            slots: Arc::new(Semaphore::new(limits.in_flight_max as usize)),
        }
    }

    /// Starts calls until it is dropped. `call` is told the number of the call.
    ///
    /// # Cancellation
    /// Ends the starting only. Calls that are open go on: see [`Generator::drain`].
    pub async fn start_calls<F, C>(&self, call: F)
    where
        F: Fn(u64) -> C,
        C: Future<Output = Outcome> + Send + 'static,
    {
        for index in 0.. {
            let intended = self.schedule.intended(index);
            tokio::time::sleep_until(intended).await;
            self.start_call(intended, call(index));
        }
    }

    fn start_call<C>(&self, intended: Instant, call: C)
    where
        C: Future<Output = Outcome> + Send + 'static,
    {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.recorder.call(Call {
                intended: self.recorder.at(intended),
                late: Duration::ZERO,
                latency: Duration::ZERO,
                outcome: Outcome::NotStarted,
            });
            return;
        };
        let recorder = Arc::clone(&self.recorder);
        let give_up = intended + self.limits.give_up;
        tokio::spawn(async move {
            // Taken when the task runs: the wait for a worker is the generator's lateness too.
            let late = intended.elapsed();
            recorder.started(late);
            let outcome = tokio::time::timeout_at(give_up, call).await;
            recorder.call(Call {
                intended: recorder.at(intended),
                late,
                latency: intended.elapsed(),
                outcome: outcome.unwrap_or(Outcome::NoAnswer),
            });
            drop(slot);
        });
    }

    /// Waits until every open call has ended, which takes no longer than giving up does.
    pub async fn drain(&self) {
        let all = self.slots.acquire_many(self.limits.in_flight_max);
        let patience = self.limits.give_up + Duration::from_secs(1);
        // A call that panicked has given its slot back; there is nothing else to wait for.
        let _ = tokio::time::timeout(patience, all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Meter;

    const MS: Duration = Duration::from_millis(1);

    fn generator(rate: u32, limits: Limits) -> (Generator, Arc<Recorder>) {
        let start = Instant::now();
        let recorder = Arc::new(Recorder::new(
            start,
            Meter::silent(),
            Duration::from_secs(1),
        ));
        let schedule = Schedule { start, rate };
        (
            Generator::new(schedule, limits, Arc::clone(&recorder)),
            recorder,
        )
    }

    async fn start_for<C>(generator: &Generator, time: Duration, call: impl Fn(u64) -> C)
    where
        C: Future<Output = Outcome> + Send + 'static,
    {
        let _ = tokio::time::timeout(time, generator.start_calls(call)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn calls_start_on_schedule_while_earlier_ones_hang() {
        let (generator, recorder) = generator(100, Limits::default());
        start_for(&generator, 995 * MS, |index| async move {
            if index < 50 {
                std::future::pending::<()>().await;
            }
            Outcome::Created
        })
        .await;
        generator.drain().await;

        let (calls, _) = recorder.take();
        let intended: Vec<_> = calls.iter().map(|call| call.intended).collect();
        let schedule: Vec<_> = (0..100).map(|index| index * 10 * MS).collect();
        assert_eq!(intended, schedule);
        assert!(calls.iter().all(|call| call.late <= 2 * MS));
        assert!(calls[50..].iter().all(|call| call.latency <= 2 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_never_answered_is_given_up() {
        let (generator, recorder) = generator(10, Limits::default());
        start_for(&generator, 50 * MS, |_| std::future::pending()).await;
        generator.drain().await;

        let (calls, _) = recorder.take();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].outcome, Outcome::NoAnswer);
        assert!((3_000..3_005).contains(&calls[0].latency.as_millis()));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_limit_are_not_started_and_are_counted() {
        let limits = Limits {
            in_flight_max: 3,
            ..Limits::default()
        };
        let (generator, recorder) = generator(100, limits);
        start_for(&generator, 95 * MS, |_| std::future::pending()).await;
        generator.drain().await;

        let (calls, _) = recorder.take();
        let not_started = |call: &&Call| call.outcome == Outcome::NotStarted;
        assert_eq!(calls.iter().filter(not_started).count(), 7);
        assert_eq!(calls.len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_counts_from_the_intended_start() {
        let (generator, recorder) = generator(10, Limits::default());
        // The generator itself is held up for a second, then catches up.
        tokio::time::advance(1_000 * MS).await;
        start_for(&generator, 50 * MS, |_| async { Outcome::Created }).await;
        generator.drain().await;

        let (calls, _) = recorder.take();
        assert_eq!(calls.len(), 11);
        assert!(calls[0].late >= 1_000 * MS && calls[0].latency >= calls[0].late);
        assert!(calls[10].late <= 2 * MS);
    }

    #[test]
    fn the_schedule_does_not_drift() {
        let schedule = Schedule {
            start: Instant::now(),
            rate: 7,
        };
        let hour = schedule.intended(7 * 3_600) - schedule.start;
        assert_eq!(hour, Duration::from_secs(3_600));
    }
}
