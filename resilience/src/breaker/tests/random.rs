//! Long random sequences, one after another, in time that is a variable.

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    super::{
        BreakerConfig, BreakerState, circuit::Circuit, machine::StateMachine, snapshot::Permit,
        window::Window,
    },
    ms,
};
use crate::classify::Outcome;

#[derive(Debug, Clone, Copy)]
enum Step {
    Acquire,
    Settle(usize, Outcome),
    /// So many calls, one after another, with the same outcome.
    Calls(u64, Outcome),
    Wait(u64),
    Force(Option<BreakerState>),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        2 => Just(Outcome::Success),
        6 => Just(Outcome::Failure),
        1 => Just(Outcome::Answered),
        1 => Just(Outcome::Ignored),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => Just(Step::Acquire),
        40 => (any::<prop::sample::Index>(), outcome())
            .prop_map(|(index, outcome)| Step::Settle(index.index(64), outcome)),
        4 => (1_u64..80, outcome()).prop_map(|(count, outcome)| Step::Calls(count, outcome)),
        10 => (0_u64..700).prop_map(Step::Wait),
        1 => (0_u64..40_000).prop_map(Step::Wait),
        1 => prop_oneof![
            3 => Just(None),
            1 => Just(Some(BreakerState::ForcedOpen)),
            1 => Just(Some(BreakerState::ForcedClosed)),
            1 => Just(Some(BreakerState::Disabled)),
        ]
        .prop_map(Step::Force),
    ]
}

/// The circuit, and beside it a machine that is asked about everything.
struct Pair {
    circuit: Circuit,
    machine: StateMachine,
    window: Window,
    dice: fastrand::Rng,
    now: Instant,
    held: Vec<(Permit, Permit)>,
    transitions: usize,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let config = BreakerConfig {
            seed: Some(7),
            ..BreakerConfig::default()
        };
        Self {
            circuit: Circuit::new("upstream", config.clone(), now),
            window: Window::new(config.window, config.failure_ratio, now),
            machine: StateMachine::new(config),
            dice: fastrand::Rng::with_seed(7),
            now,
            held: Vec::new(),
            transitions: 0,
        }
    }

    fn acquire(&mut self) {
        let answer = self.circuit.acquire(self.now);
        let (expected, transition) = self.machine.acquire(self.now, || self.dice.f64());
        assert_eq!(answer, expected);
        self.transitions += usize::from(transition.is_some());
        if let (Ok(permit), Ok(other)) = (answer, expected) {
            self.held.push((permit, other));
        }
    }

    fn settle(&mut self, index: usize, outcome: Outcome) {
        let (permit, other) = self.held.swap_remove(index);
        self.circuit.settle(permit, outcome, self.now);
        let transition = self
            .machine
            .settle(other, outcome, self.now, &self.window, || self.dice.f64());
        self.transitions += usize::from(transition.is_some());
    }

    fn call(&mut self, outcome: Outcome) {
        let held = self.held.len();
        self.acquire();
        if self.held.len() > held {
            self.settle(held, outcome);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Acquire => self.acquire(),
            Step::Settle(_, _) if self.held.is_empty() => {}
            Step::Settle(index, outcome) => self.settle(index % self.held.len(), outcome),
            Step::Calls(count, outcome) => {
                for _ in 0..count {
                    self.call(outcome);
                    self.now += ms(2);
                }
            }
            Step::Wait(millis) => self.now += ms(millis),
            Step::Force(to) => {
                self.circuit.force(to, self.now);
                let transition = self.machine.force(to, self.now);
                self.transitions += usize::from(transition.is_some());
            }
        }
    }

    /// They are in the same state, know the same, and no more probes are under
    /// way than allowed.
    fn check(&self) {
        let (shown, machine, window) = self.circuit.look();
        assert_eq!(shown, self.machine.snapshot());
        assert_eq!(machine, self.machine);
        assert_eq!(
            machine.counts(window, self.now),
            self.machine.counts(&self.window, self.now)
        );
        let probes = self
            .held
            .iter()
            .filter(|(permit, _)| permit.given_in() == shown && permit.is_probe());
        assert!(probes.count() <= 5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_circuit_does_what_the_machine_does_and_never_sticks(
        steps in prop::collection::vec(step(), 0..1500)
    ) {
        let mut pair = Pair::new();
        for step in steps {
            pair.take(step);
            pair.check();
        }
        prop_assert_eq!(pair.machine.snapshot().epoch(), pair.transitions as u64);

        // Everything that is still held is never heard of again.
        pair.take(Step::Force(None));
        for _ in 0..60 {
            pair.now += ms(100);
            pair.call(Outcome::Success);
        }
        prop_assert_eq!(pair.circuit.state(), BreakerState::Closed);
    }
}
