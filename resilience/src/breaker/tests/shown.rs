//! What the handle shows, and tells.

use std::pin::pin;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    super::{Breaker, BreakerConfig, BreakerState, Transition, TransitionReason},
    ms,
};
use crate::{classify::Outcome, rejection::Rejection};

fn breaker(config: BreakerConfig) -> Breaker {
    Breaker::of_valid("upstream", config)
}

fn call(breaker: &Breaker, outcome: Outcome, took: u64) -> Result<(), Rejection> {
    let now = Instant::now();
    let permit = breaker.permit(now)?;
    breaker.settle(permit, outcome, || ms(took), now);
    Ok(())
}

/// The least that opens it by their share: 27 failures within a second.
async fn trip(breaker: &Breaker) {
    call(breaker, Outcome::Failure, 1).unwrap();
    tokio::time::advance(ms(1000)).await;
    for _ in 0..26 {
        call(breaker, Outcome::Failure, 1).unwrap();
    }
}

/// From closed to open and back to closed by itself: three transitions.
async fn go_round(breaker: &Breaker) {
    trip(breaker).await;
    assert_eq!(breaker.state(), BreakerState::Open);
    tokio::time::advance(ms(1200)).await;
    for _ in 0..2 {
        call(breaker, Outcome::Success, 1).unwrap();
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// Each begins where the one before it ended.
fn assert_chained(transitions: &[Transition]) {
    for pair in transitions.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
        assert!(pair[0].at <= pair[1].at);
    }
}

#[tokio::test(start_paused = true)]
async fn it_shows_the_last_trip_and_the_share_of_failures() {
    let breaker = breaker(BreakerConfig::default());
    assert_eq!((breaker.last_trip(), breaker.failure_ratio()), (None, 0.0));
    call(&breaker, Outcome::Success, 1).unwrap();
    call(&breaker, Outcome::Failure, 1).unwrap();
    assert_eq!(breaker.failure_ratio(), 0.5);

    tokio::time::advance(ms(31_000)).await;
    assert_eq!(breaker.failure_ratio(), 0.0, "long ago");
    let tripped = Instant::now() + ms(1000);
    go_round(&breaker).await;
    let trip = breaker.last_trip().unwrap();
    assert_eq!(
        (trip.from, trip.to, trip.reason, trip.at),
        (
            BreakerState::Closed,
            BreakerState::Open,
            TransitionReason::FailureRatio,
            tripped
        )
    );
}

#[tokio::test(start_paused = true)]
async fn probes_that_fail_do_not_hide_why_the_circuit_opened() {
    let breaker = breaker(BreakerConfig::default());
    trip(&breaker).await;
    tokio::time::advance(ms(1200)).await;
    for _ in 0..4 {
        call(&breaker, Outcome::Failure, 1).unwrap();
    }

    let last = breaker.history().last().unwrap().reason;
    assert_eq!(last, TransitionReason::ProbesFailed);
    let trip = breaker.last_trip().unwrap().reason;
    assert_eq!(trip, TransitionReason::FailureRatio);
}

#[tokio::test(start_paused = true)]
async fn it_remembers_the_last_thirty_two_transitions() {
    let breaker = breaker(BreakerConfig::default());
    assert_eq!(breaker.history(), []);
    go_round(&breaker).await;
    let reasons: Vec<_> = breaker.history().iter().map(|each| each.reason).collect();
    assert_eq!(
        reasons,
        [
            TransitionReason::FailureRatio,
            TransitionReason::OpenExpired,
            TransitionReason::ProbesSucceeded
        ]
    );
    for _ in 0..20 {
        go_round(&breaker).await;
    }
    let history = breaker.history();
    assert_eq!(history.len(), 32);
    assert_chained(&history);
    assert_eq!(history[31].reason, TransitionReason::ProbesSucceeded);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_told_of_each_transition_as_it_happens() {
    let breaker = breaker(BreakerConfig::default());
    go_round(&breaker).await;
    let mut transitions = breaker.subscribe();
    assert!(transitions.next().now_or_never().is_none(), "nothing yet");

    // One who waits is woken.
    let forced = {
        let mut told = pin!(transitions.next());
        assert!(told.as_mut().now_or_never().is_none());
        breaker.force_open();
        told.await
    };
    assert_eq!(forced, breaker.history().last().copied());

    breaker.resume();
    go_round(&breaker).await;
    for expected in &breaker.history()[4..] {
        assert_eq!(transitions.next().await.as_ref(), Some(expected));
    }
    assert_eq!(transitions.missed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_misses_the_oldest_and_can_tell() {
    let breaker = breaker(BreakerConfig::default());
    let mut slow = breaker.subscribe();
    for _ in 0..20 {
        go_round(&breaker).await;
    }
    let mut told = Vec::new();
    while let Some(Some(transition)) = slow.next().now_or_never() {
        told.push(transition);
    }
    assert_eq!(told, breaker.history());
    assert_eq!(slow.missed(), 60 - 32);
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_with_the_breaker() {
    let breaker = breaker(BreakerConfig::default());
    let mut transitions = breaker.subscribe();
    breaker.clone().force_open();
    drop(breaker);
    assert_eq!(
        transitions.next().await.unwrap().to,
        BreakerState::ForcedOpen
    );
    assert_eq!(transitions.next().await, None);
    assert_eq!(transitions.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_success_that_takes_too_long_is_a_failure() {
    let slow = breaker(BreakerConfig {
        slow_after: Some(ms(100)),
        ..BreakerConfig::default()
    });
    call(&slow, Outcome::Success, 99).unwrap();
    assert_eq!(slow.failure_ratio(), 0.0);
    call(&slow, Outcome::Success, 100).unwrap();
    assert_eq!(slow.failure_ratio(), 0.5);
    // What says nothing says nothing, however long it took.
    call(&slow, Outcome::Answered, 100).unwrap();
    call(&slow, Outcome::Ignored, 100).unwrap();
    assert_eq!(slow.failure_ratio(), 0.5);

    let patient = breaker(BreakerConfig::default());
    call(&patient, Outcome::Success, 100_000).unwrap();
    assert_eq!(patient.failure_ratio(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_permit_says_whether_it_is_for_a_probe() {
    let breaker = breaker(BreakerConfig::default());
    assert!(!breaker.permit(Instant::now()).unwrap().is_probe());
    trip(&breaker).await;
    let now = Instant::now();
    let rejection = breaker.permit(now).unwrap_err();
    assert!(matches!(
        rejection,
        Rejection::CircuitOpen {
            retry_after: Some(_),
            probing: false
        }
    ));
    assert!(breaker.permit(now + ms(600)).unwrap().is_probe());
}

#[tokio::test(start_paused = true)]
async fn by_itself_it_guards_whatever_else_can_fail() {
    let breaker = Breaker::new("database", BreakerConfig::default()).unwrap();
    let attempt = |outcome| {
        let pass = breaker.acquire(Instant::now())?;
        pass.settle(outcome, Instant::now());
        Ok::<_, Rejection>(())
    };
    attempt(Outcome::Failure).unwrap();
    tokio::time::advance(ms(1000)).await;
    for _ in 0..26 {
        attempt(Outcome::Failure).unwrap();
    }
    attempt(Outcome::Success).unwrap_err();

    tokio::time::advance(ms(1200)).await;
    // Five places for probes; those that are dropped are free again.
    for _ in 0..3 {
        let passes: Vec<_> = (0..5)
            .map(|_| breaker.acquire(Instant::now()).unwrap())
            .collect();
        breaker.acquire(Instant::now()).unwrap_err();
        drop(passes);
    }
    attempt(Outcome::Success).unwrap();
    attempt(Outcome::Success).unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_breaker_that_cannot_be_is_an_error_that_names_the_field() {
    let config = BreakerConfig {
        probes: 0,
        ..BreakerConfig::default()
    };
    let error = Breaker::new("database", config).unwrap_err().to_string();
    assert!(error.contains("breaker.probes"), "{error}");
}
