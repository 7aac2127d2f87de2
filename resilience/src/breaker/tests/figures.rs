//! What the rules come to, in figures: when it opens, and when it does not.
//!
//! Many runs with dice that are fixed: a bound that holds here holds always.

use std::{collections::VecDeque, thread, time::Duration};

use tokio::time::Instant;

use super::{
    super::{BreakerConfig, BreakerState, TransitionReason, circuit::Circuit, snapshot::Permit},
    ms,
};
use crate::classify::Outcome;

/// Calls on a schedule, which take their time.
struct Run {
    circuit: Circuit,
    start: Instant,
    now: Instant,
    under_way: VecDeque<(Instant, Permit, Outcome)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let config = BreakerConfig {
            seed: Some(seed),
            ..BreakerConfig::default()
        };
        Self {
            circuit: Circuit::new("upstream", config, now),
            start: now,
            now,
            under_way: VecDeque::new(),
        }
    }

    /// Starts a call that will take `took`. Whether it was sent.
    fn call(&mut self, outcome: Outcome, took: Duration) -> bool {
        let sent = self.circuit.acquire(self.now);
        let ends = self.now + took;
        let is_sent = sent.is_ok();
        self.under_way
            .extend(sent.map(|permit| (ends, permit, outcome)));
        is_sent
    }

    /// Goes on in time; calls that end in it, end. They take the same time, or
    /// the earlier ones less, so they end in the order in which they began.
    fn after(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((ends, _, _)) = self.under_way.front()
            && *ends <= until
            && let Some((ends, permit, outcome)) = self.under_way.pop_front()
        {
            self.circuit.settle(permit, outcome, ends);
        }
        self.now = until;
    }

    /// A stretch of `time` in which calls come `every` so often.
    fn calls(&mut self, time: Duration, every: Duration, outcome: Outcome, took: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.call(outcome, took);
            self.after(every);
        }
    }

    fn state(&self) -> BreakerState {
        self.circuit.state()
    }

    /// The time from `since` to the first trip.
    fn opened_after(&self, since: Instant) -> Option<(Duration, TransitionReason)> {
        let history = self.circuit.record(|record| record.history());
        history.first().map(|trip| (trip.at - since, trip.reason))
    }

    /// Fails a share of the calls, of which 500 come each second and are over
    /// at once, until it opens.
    fn fail(&mut self, percent: u8, dice: &mut fastrand::Rng, for_up_to: Duration) {
        let until = self.now + for_up_to;
        while self.now < until
            && let Ok(permit) = self.circuit.acquire(self.now)
        {
            let outcome = if dice.u8(..100) < percent {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            self.circuit.settle(permit, outcome, self.now);
            self.now += ms(2);
        }
    }
}

/// Of a thousand runs, those that `is_so`. On two threads, for there are many.
fn share_of_a_thousand(is_so: impl Fn(u64) -> bool + Sync) -> usize {
    let half = |seeds: std::ops::Range<u64>| seeds.filter(|seed| is_so(*seed)).count();
    thread::scope(|scope| {
        let other = scope.spawn(|| half(500..1000));
        half(0..500) + other.join().unwrap()
    })
}

#[test]
fn at_75_percent_failures_it_stays_closed() {
    // A partial outage is no reason to make it a total one.
    let closed = share_of_a_thousand(|seed| {
        let mut run = Run::new(seed);
        run.fail(75, &mut fastrand::Rng::with_seed(seed), ms(60_000));
        run.state() == BreakerState::Closed
    });
    assert!(closed >= 950, "{closed} of 1000 minutes");
}

#[test]
fn at_95_percent_failures_it_opens_within_one_window() {
    for healthy_before in [ms(0), ms(10_000)] {
        let opened = share_of_a_thousand(|seed| {
            let mut run = Run::new(seed);
            run.calls(healthy_before, ms(2), Outcome::Success, Duration::ZERO);
            let begins = run.now;
            run.fail(95, &mut fastrand::Rng::with_seed(seed), ms(10_000));
            let (after, _) = run.opened_after(begins).unwrap();
            after <= ms(2000)
        });
        assert_eq!(opened, 1000, "after {healthy_before:?} of health");
    }
}

#[test]
fn a_hang_at_500_calls_a_second_opens_it_within_600_ms() {
    let mut run = Run::new(1);
    run.calls(ms(10_000), ms(2), Outcome::Success, ms(20));
    let hangs = run.now;
    // Each ends when its attempt timeout does.
    run.calls(ms(2_000), ms(2), Outcome::Failure, ms(250));
    let (after, reason) = run.opened_after(hangs).unwrap();
    assert_eq!(reason, TransitionReason::ConsecutiveFailures);
    assert!(after <= ms(600), "{after:?}");
    // The first failure is known after 250 ms, and 250 ms more make it a run.
    assert!(after >= ms(500), "{after:?}");
}

#[test]
fn a_burst_of_100_ms_of_failures_does_not_open_it() {
    let mut run = Run::new(1);
    for _ in 0..20 {
        run.calls(ms(3_000), ms(2), Outcome::Success, ms(20));
        run.calls(ms(100), ms(2), Outcome::Failure, ms(20));
    }
    run.calls(ms(1_000), ms(2), Outcome::Success, ms(20));
    assert_eq!(run.opened_after(run.start), None);
}

#[test]
fn at_few_calls_a_second_it_opens_after_about_thirty_failures() {
    for every in [ms(200), ms(1_000)] {
        for healthy_before in [ms(0), ms(60_000)] {
            let mut run = Run::new(1);
            run.calls(healthy_before, every, Outcome::Success, Duration::ZERO);
            let mut failures = 0;
            while run.state() == BreakerState::Closed {
                assert!(run.call(Outcome::Failure, Duration::ZERO));
                run.after(every);
                failures += 1;
                assert!(failures < 100, "every {every:?}");
            }
            assert!(
                (27..=33).contains(&failures),
                "{failures} failures, every {every:?}, after {healthy_before:?} of health"
            );
        }
    }
}

#[test]
fn an_upstream_that_only_answers_no_is_let_back_in_and_stays_in() {
    let mut run = Run::new(1);
    run.calls(ms(500), ms(2), Outcome::Failure, Duration::ZERO);
    assert_eq!(run.state(), BreakerState::Open);
    // RESOURCE_EXHAUSTED, to everything, from now on.
    run.calls(ms(2_000), ms(2), Outcome::Answered, ms(20));
    assert_eq!(run.state(), BreakerState::Closed);
    let transitions = run.circuit.record(|record| record.history()).len();
    run.calls(ms(60_000), ms(2), Outcome::Answered, ms(20));
    let history = run.circuit.record(|record| record.history());
    assert_eq!((transitions, history.len()), (3, 3));
}

#[test]
fn in_a_long_outage_five_probes_a_second_get_through() {
    let mut run = Run::new(1);
    run.calls(ms(2_000), ms(2), Outcome::Failure, ms(10));
    assert_ne!(run.state(), BreakerState::Closed);
    let mut sent = 0;
    for _ in 0..30_000 {
        sent += u32::from(run.call(Outcome::Failure, ms(10)));
        run.after(ms(2));
    }
    // Rounds of four to five, each after 0.8 s or more.
    assert!((4 * 60..=5 * 75).contains(&sent), "{sent} in a minute");

    // And once it is over, it is closed within 1.2 s and a call's time.
    let over = run.now;
    run.calls(ms(1_300), ms(2), Outcome::Success, ms(10));
    assert_eq!(run.state(), BreakerState::Closed);
    let closed = *run
        .circuit
        .record(|record| record.history())
        .last()
        .unwrap();
    assert!(closed.at - over <= ms(1_230), "{:?}", closed.at - over);
}
