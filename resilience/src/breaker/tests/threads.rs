//! Many threads at once. Time is a variable that they share.
//!
//! The sequences are not the same twice, so each test checks what must hold in
//! all of them.

use std::{
    sync::{
        Barrier,
        atomic::{
            AtomicBool, AtomicI64, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{
        Breaker, BreakerConfig, BreakerState, Transition, circuit::Circuit, snapshot::Permit,
        window::Counts,
    },
    ms,
};
use crate::classify::Outcome;

const THREADS: usize = 4;

/// Opens soon, and not for long.
fn restless() -> BreakerConfig {
    BreakerConfig {
        consecutive_failures: 3,
        consecutive_at_least: Duration::ZERO,
        open_initial: ms(1),
        open_max: ms(2),
        probe_timeout: ms(5),
        seed: Some(1),
        ..BreakerConfig::default()
    }
}

/// The time, for all threads.
struct Clock {
    start: Instant,
    micros: AtomicU64,
}

impl Clock {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            micros: AtomicU64::new(0),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.micros.load(SeqCst))
    }

    fn tick(&self) -> Instant {
        self.start + Duration::from_micros(self.micros.fetch_add(10, SeqCst))
    }
}

/// Runs `each` on all threads, which begin together.
fn together(each: impl Fn(u64) + Sync) {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let (each, start) = (&each, &start);
            scope.spawn(move || {
                start.wait();
                each(thread);
            });
        }
    });
}

fn assert_chained(transitions: &[Transition]) {
    for pair in transitions.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
    }
}

#[test]
fn no_success_is_lost_or_counted_twice() {
    const EACH: u32 = 50_000;
    let clock = Clock::new();
    let circuit = Circuit::new("upstream", BreakerConfig::default(), clock.start);
    together(|_| {
        for _ in 0..EACH {
            // Through twenty buckets.
            let now = clock.tick();
            let permit = circuit.acquire(now).unwrap();
            circuit.settle(permit, Outcome::Success, now);
        }
    });
    let (snapshot, machine, window) = circuit.look();
    assert_eq!(
        (snapshot.state(), snapshot.epoch()),
        (BreakerState::Closed, 0)
    );
    // 200,000 calls in two seconds: all of it is in the window.
    let counts = machine.counts(window, clock.now() - Duration::from_micros(10));
    assert_eq!(
        (counts.successes, counts.failures),
        (THREADS as u32 * EACH, 0)
    );
}

#[test]
fn a_success_among_failures_always_ends_the_run() {
    // Two threads fail and two succeed; a run of three would open it. Each
    // success is known before the next two failures begin.
    let clock = Clock::new();
    let config = BreakerConfig {
        failure_ratio: 0.99,
        ..restless()
    };
    let circuit = Circuit::new("upstream", config, clock.start);
    let rounds = Barrier::new(THREADS);
    let call = |outcome| {
        let now = clock.tick();
        // Refused, it has opened, which is found below.
        if let Ok(permit) = circuit.acquire(now) {
            circuit.settle(permit, outcome, now);
        }
    };
    together(|thread| {
        for _ in 0..500 {
            call(if thread < 2 {
                Outcome::Failure
            } else {
                Outcome::Success
            });
            rounds.wait();
            // In between, one success for sure.
            if thread == 0 {
                call(Outcome::Success);
            }
            rounds.wait();
        }
    });
    let (shown, machine, window) = circuit.look();
    assert_eq!((shown.state(), shown.epoch()), (BreakerState::Closed, 0));
    assert_eq!(machine.counts(window, clock.now()).failures, 1_000);
}

#[test]
fn never_more_probes_than_allowed_and_it_closes_in_the_end() {
    let clock = Clock::new();
    let circuit = Circuit::new("upstream", restless(), clock.start);
    // The places for probes that are taken, by epoch. One is given back here
    // before it is there, so there are never fewer than are shown here.
    let taken: Vec<AtomicI64> = (0..1 << 18).map(|_| AtomicI64::new(0)).collect();
    let most = AtomicI64::new(0);
    let place = |permit: &Permit| {
        let epoch = permit.given_in().epoch();
        permit.is_probe().then(|| &taken[epoch as usize])
    };
    together(|thread| {
        let mut dice = fastrand::Rng::with_seed(thread);
        let mut held: Vec<Permit> = Vec::new();
        for _ in 0..20_000 {
            let now = clock.tick();
            if let Ok(permit) = circuit.acquire(now) {
                if let Some(place) = place(&permit) {
                    most.fetch_max(place.fetch_add(1, SeqCst) + 1, SeqCst);
                }
                held.push(permit);
            }
            if held.len() > dice.usize(..8) {
                let permit = held.swap_remove(dice.usize(..held.len()));
                let outcome = match dice.u8(..10) {
                    0..=4 => Outcome::Failure,
                    5..=7 => Outcome::Success,
                    8 => Outcome::Answered,
                    _ => Outcome::Ignored,
                };
                // Only who says nothing gives the place to another.
                if let (Some(place), Outcome::Ignored) = (place(&permit), outcome) {
                    place.fetch_sub(1, SeqCst);
                }
                circuit.settle(permit, outcome, clock.now());
            }
        }
    });
    let most = most.load(SeqCst);
    assert!((2..=5).contains(&most), "{most} probes in a round");
    let (shown, machine, _) = circuit.look();
    assert_eq!(shown, machine.snapshot());
    assert!(shown.epoch() > 100, "it went round: {}", shown.epoch());
    assert_chained(&circuit.record(|record| record.history()));

    // What is still held is lost. Healthy calls close it all the same.
    let mut now = clock.now();
    for _ in 0..20 {
        now += ms(1);
        if let Ok(permit) = circuit.acquire(now) {
            circuit.settle(permit, Outcome::Success, now);
        }
    }
    assert_eq!(circuit.state(), BreakerState::Closed);
}

/// Tells the others that it is over, be it by a panic.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn late_results_never_count_in_a_later_epoch() {
    const ROUNDS: usize = 500;
    let clock = Clock::new();
    let circuit = Circuit::new("upstream", BreakerConfig::default(), clock.start);
    let over = AtomicBool::new(false);
    let settled = AtomicU64::new(0);
    // One thread goes from forced closed, where everything is counted, to
    // closed. The others settle what they were given in the first, as it ends,
    // and nothing of what they are given in the second.
    together(|thread| {
        let mut dice = fastrand::Rng::with_seed(thread);
        if thread > 0 {
            while !over.load(SeqCst) {
                let Ok(permit) = circuit.acquire(clock.now()) else {
                    continue;
                };
                if permit.given_in().state() == BreakerState::ForcedClosed {
                    let late = if dice.u8(..8) == 0 {
                        Outcome::Failure
                    } else {
                        Outcome::Success
                    };
                    circuit.settle(permit, late, clock.now());
                    settled.fetch_add(1, SeqCst);
                }
            }
            return;
        }
        let _over = AtTheEnd(&over);
        for _ in 0..ROUNDS {
            circuit.force(Some(BreakerState::ForcedClosed), clock.tick());
            let enough = settled.load(SeqCst) + 10;
            let waits_until = std::iter::repeat_n((), 10_000_000);
            for () in waits_until.take_while(|()| settled.load(SeqCst) < enough) {
                thread::yield_now();
            }
            circuit.force(None, clock.tick());
            let (shown, machine, window) = circuit.look();
            assert_eq!(shown.state(), BreakerState::Closed);
            for _ in 0..20 {
                assert_eq!(machine.counts(window, clock.now()), Counts::default());
            }
        }
    });
    assert!(settled.load(SeqCst) >= 10 * ROUNDS as u64);
}

#[test]
fn a_subscriber_sees_all_transitions_of_all_threads_in_order() {
    let breaker = Breaker::of_valid("upstream", restless());
    let mut transitions = breaker.subscribe();
    let reader = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut seen = Vec::new();
            while let Some(transition) = transitions.next().await {
                seen.push(transition);
            }
            (seen, transitions.missed())
        })
    });
    let start = Instant::now();
    let micros = AtomicU64::new(0);
    together(|thread| {
        let mut dice = fastrand::Rng::with_seed(thread);
        for _ in 0..5_000 {
            let now = start + Duration::from_micros(micros.fetch_add(20, Relaxed));
            if let Ok(permit) = breaker.permit(now) {
                let outcome = if dice.u8(..10) < 7 {
                    Outcome::Failure
                } else {
                    Outcome::Success
                };
                breaker.settle(permit, outcome, || ms(1), now);
            }
        }
    });
    let last = breaker.history().last().copied();
    drop(breaker);
    // Not woken for one of them, or for the end, it would wait here for ever.
    let (seen, missed) = reader.join().unwrap();
    assert_eq!(seen.last().copied(), last);
    assert!(seen.len() as u64 + missed > 32);
    if missed == 0 {
        assert_chained(&seen);
    }
}
