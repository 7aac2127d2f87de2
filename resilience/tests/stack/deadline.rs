//! Time.

use std::time::Duration;

use resilience::{
    Deadline, Rejection, ResilienceConfig, Scope, TimedOut,
    layers::{BreakerLayer, DeadlineLayer, EdgeLayer},
};
use tokio::time::Instant;
use tonic::{Code, Request};
use tower::Layer as _;

use crate::{
    config, ms,
    upstream::{Reply, Upstream},
    validate,
};
use proto::user::{ValidateUserRequest, user_service_client::UserServiceClient};

/// An attempt may take as long as the call.
fn one_long_attempt() -> ResilienceConfig {
    ResilienceConfig {
        attempt_timeout: ms(999),
        ..config()
    }
}

/// For layers by themselves.
fn named(deadline: Duration) -> resilience::Upstream {
    let config = ResilienceConfig {
        deadline,
        attempt_timeout: ms(1),
        ..config()
    };
    resilience::Upstream::new("upstream", config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_to_the_last_trailer_and_says_deadline_exceeded() {
    for silence in [Reply::Hang, Reply::HangAfterHead, Reply::HangAfterMessage] {
        let upstream = Upstream::always(silence.clone());
        let (mut client, _) = upstream.client(one_long_attempt());
        let start = Instant::now();

        let status = validate(&mut client).await.unwrap_err();

        assert_eq!(status.code(), Code::DeadlineExceeded, "{silence:?}");
        assert!(
            start.elapsed() <= ms(1001),
            "{silence:?}: {:?}",
            start.elapsed()
        );
        assert_eq!(Rejection::of(&status), None, "it was sent");
        assert!(TimedOut::of(&status).is_some(), "{silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_many_attempts_ends_by_its_deadline() {
    let mut config = config();
    config.retry.max_attempts = 5;
    config.deadline = ms(600);
    let upstream = Upstream::always(Reply::Hang);
    let (mut client, _) = upstream.client(config);
    let start = Instant::now();

    let status = validate(&mut client).await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(start.elapsed() <= ms(601), "{:?}", start.elapsed());
    assert_eq!(
        upstream.count(),
        3,
        "250 ms, a wait, 250 ms, a wait, the rest"
    );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_request_itself_wins_when_it_is_shorter() {
    let upstream = Upstream::always(Reply::Hang);
    let (mut client, _) = upstream.client(config());
    let start = Instant::now();

    let mut request = Request::new(ValidateUserRequest::default());
    request.set_timeout(ms(100));
    let status = client.validate_user(request).await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        TimedOut::of(&status).map(|timed_out| timed_out.scope),
        Some(Scope::Call)
    );
    assert!(start.elapsed() <= ms(101));
    assert_eq!(upstream.seen()[0].headers["grpc-timeout"], "100000u");
}

#[tokio::test(start_paused = true)]
async fn a_call_made_for_another_ends_before_it() {
    let upstream = Upstream::always(Reply::Hang);
    let (mut client, _) = upstream.client(config());
    let start = Instant::now();

    let mut request = Request::new(ValidateUserRequest::default());
    request.extensions_mut().insert(Deadline(start + ms(200)));
    client.validate_user(request).await.unwrap_err();

    assert!(start.elapsed() <= ms(191), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_layer_alone_ends_a_call_at_its_deadline_to_the_last_trailer() {
    for silence in [Reply::Hang, Reply::HangAfterHead, Reply::HangAfterMessage] {
        let layer = DeadlineLayer::new(&named(ms(700)));
        let upstream = Upstream::always(silence.clone());
        let mut client = UserServiceClient::new(layer.layer(EdgeLayer.layer(upstream)));
        let start = Instant::now();

        let status = client
            .validate_user(ValidateUserRequest::default())
            .await
            .unwrap_err();

        let timed_out = TimedOut::of(&status).unwrap();
        assert_eq!((timed_out.scope, timed_out.after), (Scope::Call, ms(700)));
        assert!(
            (ms(700)..=ms(701)).contains(&start.elapsed()),
            "{silence:?}: {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_at_the_deadline_is_a_failure_of_the_upstream() {
    let named = named(ms(100));
    let deadline = DeadlineLayer::new(&named);
    let breaker = BreakerLayer::new(&named);
    let upstream = Upstream::always(Reply::Hang);
    let stack = deadline.layer(breaker.layer(EdgeLayer.layer(upstream)));
    let mut client = UserServiceClient::new(stack);
    for _ in 0..27 {
        let request = ValidateUserRequest::default();
        client.validate_user(request).await.unwrap_err();
    }
    assert_eq!(breaker.breaker().state(), resilience::BreakerState::Open);
}
