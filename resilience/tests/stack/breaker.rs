//! The circuit.

use resilience::{BreakerState, Rejection, ResilienceConfig, TransitionReason};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    config, ms,
    upstream::{Client, Reply, Upstream},
    validate,
};

fn no_retries() -> ResilienceConfig {
    let mut config = config();
    config.retry.max_attempts = 1;
    config
}

/// Starts a call, and lets it be.
fn start(client: &Client) -> tokio::task::JoinHandle<Result<bool, tonic::Status>> {
    let mut client = client.clone();
    tokio::spawn(async move { validate(&mut client).await })
}

/// Fails until the circuit opens.
async fn trip(upstream: &Upstream, client: &mut Client) {
    upstream.becomes(Reply::code(Code::Unavailable));
    fail(client).await;
}

/// The least that opens the circuit: 27 failures within a second.
async fn fail(client: &mut Client) {
    for _ in 0..27 {
        sleep(ms(40)).await;
        validate(client).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_upstream_trips_the_breaker() {
    for silence in [Reply::Hang, Reply::HangAfterHead, Reply::HangAfterMessage] {
        let upstream = Upstream::always(Reply::Valid);
        let (client, layer) = upstream.client(config());
        // Ten seconds of health at 200 calls a second, then silence.
        let mut calls = Vec::new();
        for _ in 0..2000 {
            calls.push(start(&client));
            sleep(ms(5)).await;
        }
        upstream.becomes(silence.clone());
        let hung = Instant::now();
        while layer.breaker().state() == BreakerState::Closed {
            calls.push(start(&client));
            sleep(ms(5)).await;
        }

        assert!(
            hung.elapsed() <= ms(1000),
            "{silence:?}: {:?}",
            hung.elapsed()
        );
        assert_eq!(
            layer.breaker().last_trip().unwrap().reason,
            TransitionReason::ConsecutiveFailures
        );
        let before = upstream.count();
        let status = validate(&mut client.clone()).await.unwrap_err();
        assert!(matches!(
            Rejection::of(&status),
            Some(Rejection::CircuitOpen { .. })
        ));
        assert_eq!(upstream.count(), before, "refused, and not sent");
        for call in calls {
            call.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hang_trips_the_breaker_of_a_client_that_waits_only_a_moment() {
    let upstream = Upstream::always(Reply::Hang);
    let config = ResilienceConfig {
        deadline: ms(40),
        attempt_timeout: ms(30),
        ..no_retries()
    };
    let (mut client, layer) = upstream.client(config);
    fail(&mut client).await;
    assert_eq!(layer.breaker().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_trips_the_breaker_too() {
    let upstream = Upstream::always(Reply::MessageThenTrailers(Code::Unavailable));
    let (mut client, layer) = upstream.client(no_retries());
    fail(&mut client).await;
    assert_eq!(layer.breaker().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn business_answers_never_trip_it() {
    let upstream = Upstream::always(Reply::code(Code::NotFound));
    let (mut client, layer) = upstream.client(config());
    for _ in 0..1000 {
        assert_eq!(
            validate(&mut client).await.unwrap_err().code(),
            Code::NotFound
        );
    }
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
    assert_eq!(layer.breaker().failure_ratio(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_place_back() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, layer) = upstream.client(no_retries());
    trip(&upstream, &mut client).await;
    sleep(ms(600)).await;

    // Callers come, take all the places, and go away; a hundred times.
    upstream.becomes(Reply::Hang);
    for _ in 0..100 {
        let before = upstream.count();
        let probes: Vec<_> = (0..5).map(|_| start(&client)).collect();
        while upstream.count() < before + 5 {
            tokio::task::yield_now().await;
        }
        assert_eq!(layer.breaker().state(), BreakerState::HalfOpen);
        for probe in probes {
            probe.abort();
            assert!(probe.await.unwrap_err().is_cancelled());
        }
    }

    upstream.becomes(Reply::Valid);
    validate(&mut client).await.unwrap();
    validate(&mut client).await.unwrap();
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn sixty_four_callers_at_once_make_five_probes() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, _) = upstream.client(no_retries());
    trip(&upstream, &mut client).await;
    sleep(ms(600)).await;

    upstream.becomes(Reply::Hang);
    let before = upstream.count();
    let calls: Vec<_> = (0..64).map(|_| start(&client)).collect();
    let mut refused = 0;
    for call in calls {
        let status = call.await.unwrap().unwrap_err();
        refused += usize::from(Rejection::of(&status).is_some());
    }
    assert_eq!((upstream.count() - before, refused), (5, 59));
}

#[tokio::test(start_paused = true)]
async fn a_result_from_before_a_trip_changes_nothing() {
    let upstream = Upstream::always(Reply::After(ms(1800), Box::new(Reply::Valid)));
    let config = ResilienceConfig {
        deadline: ms(3000),
        attempt_timeout: ms(2500),
        ..no_retries()
    };
    let (mut client, layer) = upstream.client(config);

    // Slow calls are under way when the circuit opens...
    let stragglers: Vec<_> = (0..10).map(|_| start(&client)).collect();
    while upstream.count() < 10 {
        tokio::task::yield_now().await;
    }
    trip(&upstream, &mut client).await;

    // ...and come back, well, while it is half-open with a probe under way.
    sleep(ms(600)).await;
    upstream.becomes(Reply::Hang);
    let probe = start(&client);
    sleep(ms(1)).await;
    assert_eq!(layer.breaker().state(), BreakerState::HalfOpen);
    for straggler in stragglers {
        assert!(straggler.await.unwrap().unwrap());
    }
    assert_eq!(layer.breaker().state(), BreakerState::HalfOpen);
    probe.abort();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_counts_for_nothing() {
    let upstream = Upstream::always(Reply::Hang);
    let (client, layer) = upstream.client(no_retries());
    for _ in 0..200 {
        let call = start(&client);
        sleep(ms(5)).await;
        call.abort();
    }
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
    assert_eq!(layer.breaker().failure_ratio(), 0.0);
    tokio::task::yield_now().await;
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upstream_that_has_recovered_is_let_back_in() {
    let upstream = Upstream::always(Reply::Valid);
    let config = ResilienceConfig {
        deadline: ms(10_000),
        attempt_timeout: ms(5_000),
        ..no_retries()
    };
    let (mut client, layer) = upstream.client(config);
    trip(&upstream, &mut client).await;
    upstream.becomes(Reply::After(ms(1200), Box::new(Reply::Valid)));
    let recovered = Instant::now();
    let mut calls = Vec::new();
    while layer.breaker().state() != BreakerState::Closed {
        assert!(recovered.elapsed() < ms(3000), "still out");
        calls.push(start(&client));
        sleep(ms(10)).await;
    }
    for call in calls {
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn resume_ends_only_what_was_forced() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, layer) = upstream.client(no_retries());
    trip(&upstream, &mut client).await;
    layer.breaker().resume();
    assert_eq!(layer.breaker().state(), BreakerState::Open);
    assert_eq!(
        layer.breaker().failure_ratio(),
        1.0,
        "and what is known stays to be seen"
    );

    layer.breaker().force_open();
    let status = validate(&mut client).await.unwrap_err();
    assert_eq!(status.message(), "circuit forced open");
    layer.breaker().resume();
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
}
