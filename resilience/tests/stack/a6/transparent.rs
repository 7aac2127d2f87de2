//! X: what the upstream has not seen.

use std::time::Duration;

use proto::user::{ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{Rejection, ResilienceConfig, ResilienceLayer, RetryStopped, StopReason};
use tokio::time::Instant;
use tonic::{Code, Request, service::interceptor::InterceptedService};
use tower::Layer as _;

use super::{call, policy, said, stopped, waits};
use crate::{
    ms,
    upstream::{Reply, Upstream},
};

#[tokio::test(start_paused = true)]
async fn x02_the_first_is_at_once_and_the_second_waits_its_turn() {
    let upstream = Upstream::replies([Reply::Refused, Reply::Refused, Reply::Valid]);
    let (mut client, layer) = upstream.client(policy());

    let attempts = call(&mut client).await.unwrap();

    assert_eq!((attempts.retries, attempts.transparent), (1, 1));
    assert_eq!(upstream.gaps(), [ms(0), ms(10)]);
    assert_eq!(upstream.previous_attempts(), said(&[None, None, Some("1")]));
    assert_eq!(layer.budget_tokens(), 20.0, "paid for, and refunded");
}

/// gRPC tries what was never sent again without end.
#[tokio::test(start_paused = true)]
async fn x03_what_was_never_sent_is_sent_again_once_and_not_for_ever_differs_on_purpose() {
    let mut config = policy();
    config.retry.max_attempts = 1;
    let upstream = Upstream::always(Reply::Refused);
    let (mut client, _) = upstream.client(config);
    let start = Instant::now();

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(stopped(&status), Some(StopReason::Attempts));
    assert_eq!(RetryStopped::of(&status).unwrap().attempts(), 2);
    assert_eq!(upstream.count(), 2);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(upstream.previous_attempts(), said(&[None, None]));
}

/// gRPC takes it for a failure like another then, as its rule is about the
/// first attempt. Ours is about the call: it has one, whenever it needs it.
#[tokio::test(start_paused = true)]
async fn x04_a_retry_may_be_sent_again_at_once_too_differs_on_purpose() {
    let upstream = Upstream::replies([
        Reply::code(Code::Unavailable),
        Reply::Refused,
        Reply::Refused,
        Reply::Valid,
    ]);
    let (mut client, _) = upstream.client(policy());

    let attempts = call(&mut client).await.unwrap();

    assert_eq!((attempts.retries, attempts.transparent), (2, 1));
    assert_eq!(upstream.gaps(), [ms(10), ms(0), ms(10)]);
    assert_eq!(
        upstream.previous_attempts(),
        said(&[None, Some("1"), Some("1"), Some("2")])
    );
}

#[tokio::test(start_paused = true)]
async fn x05_what_was_not_seen_is_sent_again_without_a_policy_of_retries() {
    let mut config = ResilienceConfig {
        idempotent: Default::default(),
        ..policy()
    };
    config.retry.max_attempts = 1;
    config.budget.capacity = 0;
    let upstream = Upstream::replies([Reply::Refused, Reply::Valid]);
    let (mut client, _) = upstream.client(config);

    let attempts = call(&mut client).await.unwrap();

    assert_eq!((attempts.retries, attempts.transparent), (0, 1));
    assert_eq!(upstream.previous_attempts(), said(&[None, None]));
}

#[tokio::test(start_paused = true)]
async fn x08_what_is_refused_here_is_never_retried() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, layer) = upstream.client(policy());
    layer.breaker().force_open();
    let start = Instant::now();

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(status.code(), Code::Unavailable);
    assert!(matches!(
        Rejection::of(&status),
        Some(Rejection::CircuitOpen { .. })
    ));
    assert_eq!((upstream.count(), start.elapsed()), (0, Duration::ZERO));

    let mut config = policy();
    config.limit.concurrency = 1;
    config.limit.queue = 0;
    let upstream = Upstream::always(Reply::Hang);
    let (client, layer) = upstream.client(config);
    let mut other = client.clone();
    let holds = tokio::spawn(async move { call(&mut other).await });
    while layer.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let status = call(&mut client.clone()).await.unwrap_err();

    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(matches!(
        Rejection::of(&status),
        Some(Rejection::LimitReached { .. })
    ));
    assert_eq!(upstream.count(), 1);
    holds.abort();
}

/// gRPC has no address to try, which is no attempt: 2. Here a connection is
/// tried for, which is one: 1, and 1 at once, and 1 after a wait.
#[tokio::test(start_paused = true)]
async fn x09_an_upstream_that_cannot_be_reached_is_tried_once_more_differs_on_purpose() {
    let mut config = policy();
    config.retry.max_attempts = 2;
    let upstream = Upstream::always(Reply::Refused);
    let (mut client, _) = upstream.client(config);

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(upstream.gaps(), [ms(0), ms(10)]);
}

#[tokio::test(start_paused = true)]
async fn x10_what_one_attempt_adds_to_its_request_is_not_in_the_next() {
    let upstream =
        Upstream::replies([Reply::Refused, Reply::code(Code::Unavailable), Reply::Valid]);
    #[derive(Clone)]
    struct Added;
    let adds = InterceptedService::new(upstream.clone(), |mut request: Request<()>| {
        assert!(request.extensions().get::<Added>().is_none());
        request.extensions_mut().insert(Added);
        let metadata = request.metadata_mut();
        metadata.append("x-added", "once".parse().unwrap());
        Ok(request)
    });
    let layer = ResilienceLayer::new("upstream", waits(policy(), ms(10), ms(10))).unwrap();
    let mut client = UserServiceClient::new(layer.layer(adds));

    client
        .validate_user(ValidateUserRequest::default())
        .await
        .unwrap();

    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    for seen in seen {
        assert_eq!(seen.headers.get_all("x-added").iter().count(), 1);
    }
}
