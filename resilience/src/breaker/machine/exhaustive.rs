//! Everything that can happen, tried.
//!
//! From a new circuit on, up to four calls at a time come, succeed, fail (or
//! time out, which is to fail late), are answered with something that is
//! neither, or go away, in every order and with every span of time between
//! them; and now and then someone forces the state. Situations from which the
//! same things can follow are looked at once, so the search ends, and what it
//! has seen is not some schedules but all of them, of whatever length.
//!
//! It is the circuit as it runs that is searched, gate and atomics included,
//! in one thread. What two threads can do to each other is in
//! `tests/threads.rs`.

use std::collections::{HashSet, VecDeque};

use super::{super::circuit::Circuit, *};

/// Time goes in steps of this, and all times below are whole steps.
const STEP: Duration = Duration::from_millis(100);

/// Calls at a time.
const CALLS: usize = 4;

/// A circuit, the calls that are under way, and the time.
struct World {
    circuit: Circuit,
    held: Vec<Permit>,
    start: Instant,
    now: Instant,
}

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Event {
    Acquire,
    /// The first of the calls whose permit is of this epoch, or of an older
    /// one: calls of one kind cannot be told apart.
    Settle {
        stale: bool,
        outcome: Outcome,
    },
    Wait(u32),
    Force(Option<BreakerState>),
}

/// What decides all that can follow. Times that are long enough to count as
/// over are over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Situation {
    state: BreakerState,
    /// Steps until the open time is over.
    open_for: u128,
    /// Unsettled, succeeded, failed, and steps of silence.
    probes: Option<(u32, u32, u32, u128)>,
    /// Failures in a row, and steps that they have lasted.
    run: (u32, u128),
    /// What the window holds, where that can trip the circuit.
    counts: (u32, u32),
    /// Steps until it is half full, as far as that, and whether a step leads
    /// into the next bucket; where it can trip the circuit.
    half_full_in: (Option<u32>, bool),
    /// Whether the next trip would be the first, and steps since it closed.
    trips: (bool, u128),
    /// Calls under way whose permits are of this epoch, and of older ones.
    held: (usize, usize),
}

fn steps(time: Duration) -> u128 {
    time.as_nanos().div_ceil(STEP.as_nanos())
}

impl World {
    fn new(config: &BreakerConfig) -> Self {
        let now = Instant::now();
        Self {
            circuit: Circuit::new("upstream", config.clone(), now),
            held: Vec::new(),
            start: now,
            now,
        }
    }

    fn fork(&self) -> Self {
        Self {
            circuit: self.circuit.fork(),
            held: self.held.iter().map(Permit::fork).collect(),
            ..*self
        }
    }

    fn situation(&self) -> Situation {
        let (snapshot, machine, window) = self.circuit.look();
        let config = &machine.config;
        let since = |at: Instant| self.now - at;
        let run = &machine.run;
        // A run that a success has ended is none, though it still stands there.
        let goes_on = matches!(machine.state, State::Closed)
            && run.length() > 0
            && !run.is_broken(window, machine.epoch, self.now);
        let counts = window.counts(machine.epoch, self.now);
        let window_can_trip = config.failure_ratio < 0.5;
        let half_full_in =
            (0..2).find(|later| window.is_half_full(machine.epoch, self.now + STEP * *later));
        let ends_bucket = steps(self.now - self.start) % 2 == 1;
        let fresh = self
            .held
            .iter()
            .filter(|held| held.given_in() == snapshot)
            .count();
        Situation {
            state: snapshot.state(),
            open_for: steps(machine.open_until().map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(self.now)
            })),
            probes: match machine.state {
                State::HalfOpen { probes } => Some((
                    probes.unsettled,
                    probes.succeeded,
                    probes.failed,
                    steps(since(probes.last_sent).min(config.probe_timeout)),
                )),
                _ => None,
            },
            run: if goes_on {
                (
                    run.length().min(config.consecutive_failures),
                    steps(run.lasted(self.now).min(config.consecutive_at_least)),
                )
            } else {
                (0, 0)
            },
            counts: if window_can_trip && machine.state == State::Closed {
                (counts.successes, counts.failures)
            } else {
                (0, 0)
            },
            half_full_in: match (window_can_trip, machine.state) {
                (true, State::Closed) => (half_full_in, ends_bucket),
                (true, _) => (None, ends_bucket),
                (false, _) => (None, false),
            },
            trips: (
                machine.trips == 0,
                match machine.state {
                    State::Closed => machine.closed_at.map_or(0, |closed| {
                        steps(since(closed).min(config.healthy_after + STEP))
                    }),
                    _ => 0,
                },
            ),
            held: (fresh, self.held.len() - fresh),
        }
    }

    /// What can happen here.
    fn events(&self) -> Vec<Event> {
        let (snapshot, ..) = self.circuit.look();
        let mut events = vec![
            Event::Wait(1),
            Event::Wait(7),
            Event::Force(None),
            Event::Force(Some(BreakerState::ForcedOpen)),
            Event::Force(Some(BreakerState::ForcedClosed)),
            Event::Force(Some(BreakerState::Disabled)),
        ];
        if self.held.len() < CALLS {
            events.push(Event::Acquire);
        }
        for stale in [false, true] {
            if self
                .held
                .iter()
                .any(|held| (held.given_in() != snapshot) == stale)
            {
                events.extend(
                    [
                        Outcome::Success,
                        Outcome::Failure,
                        Outcome::Answered,
                        Outcome::Ignored,
                    ]
                    .map(|outcome| Event::Settle { stale, outcome }),
                );
            }
        }
        // A window that can trip is not filled for ever: four of a kind are as
        // good as more, and would never end.
        let (successes, failures) = self.situation().counts;
        events.retain(|event| {
            let Event::Settle {
                stale: false,
                outcome,
            } = event
            else {
                return true;
            };
            match outcome {
                Outcome::Success => successes < 4,
                Outcome::Failure => failures < 4,
                Outcome::Answered | Outcome::Ignored => true,
            }
        });
        events
    }

    /// Lets it happen, and checks that it was right.
    fn take(&mut self, event: Event) {
        let (before, machine_before, _) = self.circuit.look();
        let past = self.circuit.record(|record| record.history());
        match event {
            Event::Wait(times) => self.now += STEP * times,
            Event::Force(to) => self.circuit.force(to, self.now),
            Event::Acquire => {
                let answer = self.circuit.acquire(self.now);
                self.check_answer(&answer);
                self.held.extend(answer);
            }
            Event::Settle { stale, outcome } => {
                let at = self
                    .held
                    .iter()
                    .position(|held| (held.given_in() != before) == stale);
                let permit = self.held.remove(at.unwrap());
                let counts = |world: &Self| world.circuit.failure_ratio(world.now);
                let ratio = counts(self);
                self.circuit.settle(permit, outcome, self.now);
                if stale {
                    assert_eq!(self.circuit.look().1, machine_before);
                    assert_eq!(counts(self), ratio);
                }
            }
        }
        self.check_transition(before, &past, event);
        self.check_probes();
    }

    /// The answer is the one that the state calls for.
    fn check_answer(&self, answer: &Result<Permit, Rejection>) {
        let (snapshot, machine, _) = self.circuit.look();
        let config = &machine.config;
        match (snapshot.state(), answer) {
            (
                BreakerState::Closed | BreakerState::ForcedClosed | BreakerState::Disabled,
                Ok(permit),
            ) => assert!(permit.given_in() == snapshot && !permit.is_probe()),
            (BreakerState::HalfOpen, Ok(permit)) => {
                assert!(permit.given_in() == snapshot && permit.is_probe());
            }
            (
                BreakerState::Open,
                Err(Rejection::CircuitOpen {
                    retry_after: Some(after),
                    probing: false,
                }),
            ) => {
                assert_eq!(Some(self.now + *after), machine.open_until());
                assert!(!after.is_zero() && *after <= config.open_max.mul_f64(1.2));
            }
            (
                BreakerState::HalfOpen,
                Err(Rejection::CircuitOpen {
                    retry_after: None,
                    probing: true,
                }),
            ) => match machine.state {
                State::HalfOpen { probes } => assert_eq!(probes.total(), config.probes),
                _ => unreachable!(),
            },
            (
                BreakerState::ForcedOpen,
                Err(Rejection::CircuitOpen {
                    retry_after: None,
                    probing: false,
                }),
            ) => {}
            wrong => panic!("{wrong:?}"),
        }
    }

    /// One state, and at most one transition, which leads from the state
    /// before to the state after.
    fn check_transition(&self, before: Snapshot, past: &[Transition], event: Event) {
        let (shown, machine, _) = self.circuit.look();
        assert_eq!(shown, machine.snapshot(), "the gate shows the machine");
        let history = self.circuit.record(|record| record.history());
        if shown == before {
            assert_eq!(history, past);
            return;
        }
        assert_eq!(shown.epoch(), before.epoch() + 1);
        let last = *history.last().unwrap();
        assert_eq!(
            (last.from, last.to, last.at),
            (before.state(), shown.state(), self.now)
        );
        let by_itself = TransitionReason::AUTOMATIC.contains(&(last.from, last.to, last.reason));
        match event {
            Event::Force(_) => assert_eq!(last.reason, TransitionReason::Manual),
            Event::Wait(_) => panic!("time alone changes nothing"),
            Event::Acquire | Event::Settle { .. } => assert!(by_itself, "{last:?}"),
        }
    }

    /// Never more probes than allowed, and each place taken is one call's.
    fn check_probes(&self) {
        let (snapshot, machine, _) = self.circuit.look();
        if let State::HalfOpen { probes } = machine.state {
            assert!(probes.total() <= machine.config.probes);
            let held = self
                .held
                .iter()
                .filter(|held| held.given_in() == snapshot)
                .count();
            assert_eq!(probes.unsettled as usize, held);
        }
    }

    /// With healthy calls from now on, it closes, and stays so; whatever
    /// becomes of the calls that are under way.
    fn check_recovery(&self, of_those_held: Option<Outcome>) {
        let mut world = self.fork();
        world.circuit.force(None, world.now);
        world.now += STEP;
        if let Some(outcome) = of_those_held {
            for permit in world.held.drain(..) {
                world.circuit.settle(permit, outcome, world.now);
            }
        }
        let (_, machine, _) = world.circuit.look();
        let config = &machine.config;
        // Probes may be lost; then it opens once more.
        let bound = config.probe_timeout + 2 * config.open_max.mul_f64(1.2) + 2 * STEP;
        for _ in 0..steps(bound) {
            world.healthy_call();
        }
        for _ in 0..3 {
            assert_eq!(
                world.circuit.state(),
                BreakerState::Closed,
                "{:?}",
                self.situation()
            );
            world.healthy_call();
        }
    }

    fn healthy_call(&mut self) {
        self.now += STEP;
        if let Ok(permit) = self.circuit.acquire(self.now) {
            self.circuit.settle(permit, Outcome::Success, self.now);
        }
    }
}

/// What a search has found.
struct Found {
    situations: HashSet<Situation>,
    transitions: HashSet<(BreakerState, BreakerState, TransitionReason)>,
}

/// Far more situations than any search below finds.
const ENDLESS: usize = 100_000;

fn search(config: &BreakerConfig) -> Found {
    config.validate().unwrap();
    let start = World::new(config);
    let mut found = Found {
        situations: HashSet::from([start.situation()]),
        transitions: HashSet::new(),
    };
    let mut ahead = VecDeque::from([start]);
    while let Some(world) = ahead.pop_front() {
        for of_those_held in [None, Some(Outcome::Failure), Some(Outcome::Success)] {
            world.check_recovery(of_those_held);
        }
        for event in world.events() {
            let mut next = world.fork();
            next.take(event);
            let last = next
                .circuit
                .record(|record| record.history().last().copied());
            found
                .transitions
                .extend(last.map(|last| (last.from, last.to, last.reason)));
            if found.situations.insert(next.situation()) {
                ahead.push_back(next);
            }
        }
        assert!(found.situations.len() < ENDLESS);
    }
    found
}

impl Found {
    /// A search that has not been everywhere proves little: it was in every
    /// state, with nobody and with everybody late, and saw every transition
    /// that there is, but for one reason.
    fn is_everything_but(&self, reason: TransitionReason) {
        for state in BreakerState::ALL {
            for held in [(0, 0), (0, CALLS - 1)] {
                let is = |each: &Situation| each.state == *state && each.held == held;
                assert!(self.situations.iter().any(is), "{state:?} {held:?}");
            }
        }
        for each in TransitionReason::AUTOMATIC {
            assert_eq!(
                self.transitions.contains(each),
                each.2 != reason,
                "{each:?}"
            );
        }
        for from in BreakerState::ALL {
            for to in &BreakerState::ALL[3..] {
                let by_hand = (*from, *to, TransitionReason::Manual);
                assert_eq!(
                    self.transitions.contains(&by_hand),
                    from != to,
                    "{by_hand:?}"
                );
            }
        }
    }
}

fn small() -> BreakerConfig {
    BreakerConfig {
        failure_ratio: 0.99,
        window: STEP * 10,
        consecutive_failures: 2,
        consecutive_at_least: STEP,
        open_initial: STEP * 2,
        open_max: STEP * 4,
        healthy_after: STEP * 5,
        probes: 3,
        probes_to_close: 2,
        probe_timeout: STEP * 3,
        slow_after: None,
        seed: Some(1),
    }
}

#[test]
fn with_two_failures_in_a_row() {
    search(&small()).is_everything_but(TransitionReason::FailureRatio);
}

#[test]
fn with_a_window_that_is_sure_after_two_failures() {
    search(&BreakerConfig {
        failure_ratio: 0.2,
        window: STEP * 4,
        consecutive_failures: 1000,
        ..small()
    })
    .is_everything_but(TransitionReason::ConsecutiveFailures);
}

#[test]
fn with_one_probe_at_a_time() {
    search(&BreakerConfig {
        consecutive_failures: 1,
        consecutive_at_least: Duration::ZERO,
        probes: 1,
        probes_to_close: 1,
        ..small()
    })
    .is_everything_but(TransitionReason::FailureRatio);
}

#[test]
fn with_two_probes_of_five() {
    search(&BreakerConfig {
        probes: 5,
        ..small()
    })
    .is_everything_but(TransitionReason::FailureRatio);
}
