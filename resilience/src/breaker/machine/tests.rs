//! Time is a variable here, and so are the dice.

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A machine on a bench.
struct Bench {
    machine: StateMachine,
    window: Window,
    now: Instant,
    transitions: Vec<(BreakerState, BreakerState, TransitionReason)>,
}

impl Bench {
    fn new() -> Self {
        Self::with(BreakerConfig::default())
    }

    fn with(config: BreakerConfig) -> Self {
        let now = Instant::now();
        Self {
            window: Window::new(config.window, config.failure_ratio, now),
            machine: StateMachine::new(config),
            now,
            transitions: Vec::new(),
        }
    }

    /// One that has just opened, on 27 failures.
    fn open() -> Self {
        let mut bench = Self::new();
        bench.trip();
        assert_eq!(bench.state(), BreakerState::Open);
        bench
    }

    /// One whose open time has just passed: the next call is the first probe.
    fn expired() -> Self {
        let mut bench = Self::open();
        bench.after(ms(500));
        bench
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
    }

    fn state(&self) -> BreakerState {
        self.machine.snapshot().state()
    }

    fn failure_ratio(&self) -> f64 {
        self.machine.counts(&self.window, self.now).failure_ratio()
    }

    fn acquire(&mut self) -> Result<Permit, Rejection> {
        // Dice of one half: jitter of nothing.
        let (result, transition) = self.machine.acquire(self.now, || 0.5);
        self.note(transition);
        result
    }

    fn settle(&mut self, permit: Permit, outcome: Outcome) {
        let transition = self
            .machine
            .settle(permit, outcome, self.now, &self.window, || 0.5);
        self.note(transition);
    }

    fn call(&mut self, outcome: Outcome) -> Result<(), Rejection> {
        let permit = self.acquire()?;
        self.settle(permit, outcome);
        Ok(())
    }

    fn calls(&mut self, count: usize, outcome: Outcome) {
        for _ in 0..count {
            self.call(outcome).unwrap();
        }
    }

    /// The least that opens it by their share: 27 failures within a second,
    /// half of the window.
    fn trip(&mut self) {
        self.calls(1, Outcome::Failure);
        self.after(ms(1000));
        self.calls(26, Outcome::Failure);
    }

    fn note(&mut self, transition: Option<Transition>) {
        self.transitions
            .extend(transition.map(|t| (t.from, t.to, t.reason)));
    }

    fn last_reason(&self) -> Option<TransitionReason> {
        self.transitions.last().map(|(_, _, reason)| *reason)
    }
}

#[test]
fn it_opens_when_it_is_sure_and_not_before() {
    let mut bench = Bench::new();
    bench.calls(1, Outcome::Failure);
    bench.after(ms(1000));
    bench.calls(25, Outcome::Failure);
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.calls(1, Outcome::Failure);
    assert_eq!(bench.state(), BreakerState::Open);
    assert_eq!(bench.last_reason(), Some(TransitionReason::FailureRatio));
}

/// Failures are known at once; the successes that left with them are not.
#[test]
fn what_is_known_first_does_not_open_it() {
    let mut bench = Bench::new();
    bench.calls(49, Outcome::Failure);
    bench.after(ms(20));
    bench.calls(10, Outcome::Success);
    bench.after(ms(979));
    bench.calls(49, Outcome::Failure);
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.calls(1, Outcome::Success);
    bench.after(ms(1));
    bench.calls(1, Outcome::Failure);
    assert_eq!(bench.last_reason(), Some(TransitionReason::FailureRatio));
}

#[test]
fn a_healthy_past_must_be_outweighed() {
    let mut bench = Bench::new();
    bench.calls(100, Outcome::Success);
    bench.calls(60, Outcome::Failure);
    assert_eq!(bench.state(), BreakerState::Closed, "a burst, all at once");
}

#[test]
fn a_client_of_one_call_a_second_is_protected_too() {
    let mut bench = Bench::new();
    for second in 0..30 {
        if bench.state() == BreakerState::Open {
            assert!((27..30).contains(&second));
            return;
        }
        bench.call(Outcome::Failure).unwrap();
        bench.after(ms(1000));
    }
    panic!("never opened");
}

#[test]
fn a_hang_opens_it_long_before_the_window_has_forgotten_the_good_past() {
    let mut bench = Bench::new();
    for _ in 0..5000 {
        bench.call(Outcome::Success).unwrap();
        bench.after(ms(2));
    }
    let hang = bench.now;
    while bench.state() == BreakerState::Closed {
        bench.call(Outcome::Failure).unwrap();
        bench.after(ms(2));
    }
    assert_eq!(
        bench.last_reason(),
        Some(TransitionReason::ConsecutiveFailures)
    );
    assert!(bench.now - hang <= ms(260), "{:?}", bench.now - hang);
}

#[test]
fn a_burst_of_100_ms_does_not_open_it() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.call(Outcome::Success).unwrap();
        bench.after(ms(2));
    }
    for _ in 0..100 {
        bench.call(Outcome::Failure).unwrap();
        bench.after(ms(1));
    }
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn ignored_outcomes_neither_extend_nor_break_a_run() {
    let mut bench = Bench::with(BreakerConfig {
        failure_ratio: 0.99,
        ..BreakerConfig::default()
    });
    for _ in 0..49 {
        bench.call(Outcome::Failure).unwrap();
        bench.call(Outcome::Answered).unwrap();
        bench.call(Outcome::Ignored).unwrap();
        bench.after(ms(10));
    }
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.call(Outcome::Failure).unwrap();
    assert_eq!(
        bench.last_reason(),
        Some(TransitionReason::ConsecutiveFailures)
    );
}

#[test]
fn a_run_that_takes_longer_than_thirty_seconds_is_no_run() {
    let mut bench = Bench::with(BreakerConfig {
        failure_ratio: 0.99,
        ..BreakerConfig::default()
    });
    for _ in 0..200 {
        bench.call(Outcome::Failure).unwrap();
        bench.after(ms(700));
    }
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn only_a_failure_can_open_it() {
    let mut bench = Bench::with(BreakerConfig {
        failure_ratio: 0.1,
        ..BreakerConfig::default()
    });
    for outcome in [Outcome::Success, Outcome::Answered, Outcome::Ignored] {
        bench.calls(100, outcome);
        assert_eq!(bench.state(), BreakerState::Closed, "{outcome:?}");
    }
}

#[test]
fn an_open_circuit_refuses_and_says_how_long() {
    let mut bench = Bench::open();
    bench.after(ms(188));
    let refusal = bench.acquire().unwrap_err();
    assert_eq!(
        refusal,
        Rejection::CircuitOpen {
            retry_after: Some(ms(312)),
            probing: false
        }
    );
}

#[test]
fn it_closes_at_the_second_success_among_five_probes() {
    let mut bench = Bench::expired();
    bench.calls(3, Outcome::Failure);
    bench.calls(1, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.calls(1, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
    assert_eq!(bench.last_reason(), Some(TransitionReason::ProbesSucceeded));
}

#[test]
fn it_reopens_at_the_fourth_failure() {
    let mut bench = Bench::expired();
    bench.calls(1, Outcome::Success);
    bench.calls(3, Outcome::Failure);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.calls(1, Outcome::Failure);
    assert_eq!(bench.state(), BreakerState::Open);
    assert_eq!(bench.last_reason(), Some(TransitionReason::ProbesFailed));
}

#[test]
fn half_open_lets_five_through_and_refuses_the_sixth() {
    let mut bench = Bench::expired();
    let permits: Vec<_> = (0..5).map(|_| bench.acquire().unwrap()).collect();
    let refusal = bench.acquire().unwrap_err();
    assert_eq!(
        refusal,
        Rejection::CircuitOpen {
            retry_after: None,
            probing: true
        }
    );
    drop(permits);
}

#[test]
fn a_dropped_probe_gives_its_place_back() {
    let mut bench = Bench::expired();
    for _ in 0..100 {
        let permits: Vec<_> = (0..5).map(|_| bench.acquire().unwrap()).collect();
        for permit in permits {
            bench.settle(permit, Outcome::Ignored);
        }
    }
    bench.calls(2, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn probes_that_are_never_heard_of_again_have_failed() {
    let mut bench = Bench::expired();
    let lost: Vec<_> = (0..5).map(|_| bench.acquire().unwrap()).collect();
    bench.after(ms(999));
    bench.acquire().unwrap_err();
    bench.after(ms(1));
    bench.acquire().unwrap_err();
    assert_eq!(bench.state(), BreakerState::Open);
    assert_eq!(bench.last_reason(), Some(TransitionReason::ProbesSilent));

    for permit in lost {
        bench.settle(permit, Outcome::Success);
    }
    assert_eq!(
        bench.state(),
        BreakerState::Open,
        "late results count for nothing"
    );
}

#[test]
fn silence_begins_with_the_last_probe() {
    let mut bench = Bench::expired();
    let _first: Vec<_> = (0..4).map(|_| bench.acquire().unwrap()).collect();
    bench.after(ms(900));
    let _last = bench.acquire().unwrap();
    bench.after(ms(999));
    bench.acquire().unwrap_err();
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.after(ms(1));
    bench.acquire().unwrap_err();
    assert_eq!(bench.last_reason(), Some(TransitionReason::ProbesSilent));
}

#[test]
fn an_upstream_that_only_answers_no_does_not_keep_it_half_open() {
    let mut bench = Bench::expired();
    bench.calls(2, Outcome::Answered);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn a_result_from_before_a_trip_changes_nothing() {
    let mut bench = Bench::new();
    let stragglers: Vec<_> = (0..10).map(|_| bench.acquire().unwrap()).collect();
    bench.trip();
    bench.after(ms(500));
    let probe = bench.acquire().unwrap();
    for permit in stragglers {
        bench.settle(permit, Outcome::Success);
    }
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.settle(probe, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.calls(1, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn window_and_run_are_empty_after_a_close() {
    let mut bench = Bench::expired();
    bench.calls(2, Outcome::Success);
    bench.calls(1, Outcome::Failure);
    bench.after(ms(1000));
    bench.calls(25, Outcome::Failure);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn the_open_time_doubles_within_ten_seconds_of_closing_and_starts_again_after() {
    let mut bench = Bench::open();
    let open_time = |bench: &mut Bench| match bench.acquire().unwrap_err() {
        Rejection::CircuitOpen { retry_after, .. } => retry_after.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(open_time(&mut bench), ms(500));

    bench.after(ms(500));
    bench.calls(4, Outcome::Failure);
    assert_eq!(open_time(&mut bench), ms(1000), "reopened by probes");

    bench.after(ms(1000));
    bench.calls(2, Outcome::Success);
    bench.after(ms(9_000));
    bench.trip();
    assert_eq!(
        open_time(&mut bench),
        ms(1000),
        "tripped soon after closing"
    );

    bench.after(ms(1000));
    bench.calls(2, Outcome::Success);
    bench.after(ms(9_001));
    bench.trip();
    assert_eq!(open_time(&mut bench), ms(500), "healthy in between");
}

#[test]
fn jitter_is_twenty_percent_either_way() {
    let config = BreakerConfig::default();
    assert_eq!(open_time(&config, 0, 0.0), ms(400));
    assert_eq!(open_time(&config, 0, 1.0), ms(600));
    assert_eq!(open_time(&config, u32::MAX, 1.0), ms(1200));
}

#[test]
fn forced_open_refuses_until_told_otherwise() {
    let mut bench = Bench::new();
    let transition = bench
        .machine
        .force(Some(BreakerState::ForcedOpen), bench.now)
        .unwrap();
    assert_eq!(
        (transition.to, transition.reason),
        (BreakerState::ForcedOpen, TransitionReason::Manual)
    );
    bench.after(ms(60_000));
    bench.acquire().unwrap_err();

    bench.machine.force(None, bench.now).unwrap();
    bench.calls(1, Outcome::Success);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn forced_closed_and_disabled_let_everything_pass() {
    for state in [BreakerState::ForcedClosed, BreakerState::Disabled] {
        let mut bench = Bench::open();
        bench.machine.force(Some(state), bench.now).unwrap();
        bench.calls(1000, Outcome::Failure);
        assert_eq!(bench.state(), state);
        assert_eq!(
            bench.failure_ratio() > 0.0,
            state == BreakerState::ForcedClosed,
            "only disabled counts nothing"
        );
    }
}
