//! Time.

use std::{
    future::Ready,
    task::{Context, Poll},
    time::Duration,
};

use http::Response;
use resilience::{
    Deadline, Rejection, ResilienceConfig, Scope, TimedOut,
    layers::{AttemptTimeoutLayer, BreakerLayer, DeadlineLayer, EdgeLayer, RetryLayer},
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status, body::Body};
use tower::{Layer as _, Service};

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

/// tower's limit, say, with all its places taken.
#[tokio::test(start_paused = true)]
async fn what_is_never_ready_is_waited_for_within_the_deadline() {
    #[derive(Clone)]
    struct NeverReady;
    impl Service<http::Request<Body>> for NeverReady {
        type Response = Response<Body>;
        type Error = Status;
        type Future = Ready<Result<Response<Body>, Status>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
            Poll::Pending
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            unreachable!("it is not ready")
        }
    }
    let layers = (
        DeadlineLayer::new(&named(ms(300))),
        RetryLayer::new(&named(ms(300))),
    );
    let service = layers.layer(NeverReady);
    let mut client = UserServiceClient::new(service);
    let start = Instant::now();

    let call = client.validate_user(ValidateUserRequest::default());
    let status = timeout(ms(10_000), call).await.unwrap().unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(start.elapsed() <= ms(301), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_attempt_timeout_by_itself_leaves_the_caller_s_own() {
    for (asked, told, ends) in [(ms(100), "100000u", 100), (ms(5_000), "250000u", 250)] {
        let upstream = Upstream::always(Reply::Hang);
        let layer =
            AttemptTimeoutLayer::new(&resilience::Upstream::new("upstream", config()).unwrap());
        let mut client = UserServiceClient::new(layer.layer(EdgeLayer.layer(upstream.clone())));
        let start = Instant::now();

        let mut request = Request::new(ValidateUserRequest::default());
        request.set_timeout(asked);
        client.validate_user(request).await.unwrap_err();

        assert_eq!(upstream.seen()[0].headers["grpc-timeout"], told);
        assert!((ms(ends)..=ms(ends + 1)).contains(&start.elapsed()));
    }
}

#[tokio::test(start_paused = true)]
async fn retries_without_a_deadline_layer_keep_to_the_caller_s_own_timeout() {
    let failing = Reply::code(Code::Unavailable);
    let upstream = Upstream::always(Reply::After(ms(80), Box::new(failing)));
    let mut config = config();
    config.retry.max_attempts = 5;
    let named = resilience::Upstream::new("upstream", config).unwrap();
    let layers = (
        RetryLayer::new(&named),
        AttemptTimeoutLayer::new(&named),
        EdgeLayer,
    );
    let mut client = UserServiceClient::new(layers.layer(upstream.clone()));
    let start = Instant::now();

    let mut request = Request::new(ValidateUserRequest::default());
    request.set_timeout(ms(200));
    client.validate_user(request).await.unwrap_err();

    assert!(start.elapsed() <= ms(201), "{:?}", start.elapsed());
    assert!((2..=3).contains(&upstream.count()), "{}", upstream.count());
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
