//! Attempts, replay, budget.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use resilience::{
    Classify, GrpcClassifier, Outcome, Rejection, ResilienceConfig, RetryRule, RetryStopped,
    StopReason,
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, body::Body};
use tower::{Layer as _, Service as _};

use crate::{
    config, ms,
    upstream::{Reply, Upstream},
    validate,
};

fn stopped(status: &tonic::Status) -> Option<StopReason> {
    RetryStopped::of(status).map(RetryStopped::reason)
}

#[tokio::test(start_paused = true)]
async fn a_body_is_replayed() {
    let upstream = Upstream::replies([
        Reply::code(Code::Unavailable),
        Reply::Trailers(Code::Unavailable),
        Reply::Valid,
    ]);
    let (mut client, _) = upstream.client(config());
    assert!(validate(&mut client).await.unwrap());

    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen[0].body.ends_with(b"user-123"), "{:?}", seen[0].body);
    for again in &seen[1..] {
        assert_eq!(again.body, seen[0].body);
        assert_eq!(again.path, seen[0].path);
        assert_eq!(
            again.headers["content-type"],
            seen[0].headers["content-type"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_not_idempotent_is_not_retried_unless_it_was_not_processed() {
    let config = || ResilienceConfig {
        idempotent: Default::default(),
        ..config()
    };

    for may_have_acted in [Reply::code(Code::Unavailable), Reply::Broken, Reply::Hang] {
        let upstream = Upstream::replies([may_have_acted.clone(), Reply::Valid]);
        let (mut client, _) = upstream.client(config());
        let status = validate(&mut client).await.unwrap_err();
        assert_eq!(
            stopped(&status),
            Some(StopReason::NotIdempotent),
            "{may_have_acted:?}"
        );
        assert_eq!(upstream.count(), 1, "{may_have_acted:?}");
    }

    let upstream = Upstream::replies([Reply::Refused, Reply::Valid]);
    let (mut client, layer) = upstream.client(config());
    assert!(validate(&mut client).await.unwrap());
    assert_eq!(upstream.count(), 2);
    assert_eq!(
        layer.budget_tokens(),
        20.0,
        "it was not sent, and costs nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_metadata_and_details_survive_the_reason() {
    let told = vec![
        ("x-shard", "7"),
        ("grpc-message", "tired"),
        ("grpc-status-details-bin", "aGk"),
    ];
    let upstream = Upstream::always(Reply::Head(Code::Internal, told));
    let (mut client, _) = upstream.client(config());

    let status = validate(&mut client).await.unwrap_err();

    assert_eq!(stopped(&status), Some(StopReason::NotRetryable));
    assert_eq!((status.message(), status.details()), ("tired", &b"hi"[..]));
    assert_eq!(status.metadata().get("x-shard").unwrap(), "7");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_that_fail_at_once_start_no_more_retries_than_the_budget_holds() {
    let mut config = config();
    config.limit.concurrency = 20_000;
    config.breaker.failure_ratio = 0.99;
    config.breaker.consecutive_failures = u32::MAX;
    // Slow enough that all have failed before the first retry succeeds or fails.
    let slow_no = Reply::After(ms(10), Box::new(Reply::code(Code::Unavailable)));
    let upstream = Upstream::always(slow_no);
    let (client, layer) = upstream.client(config);
    layer.breaker().force_closed();

    let calls = (0..10_000).map(|_| {
        let mut client = client.clone();
        async move { validate(&mut client).await.unwrap_err() }
    });
    let statuses = join_all(calls).await;

    assert_eq!(upstream.count(), 10_000 + 20);
    let by_budget = statuses
        .iter()
        .filter(|status| stopped(status) == Some(StopReason::Budget))
        .count();
    assert!(by_budget >= 9_980, "{by_budget}");
}

#[tokio::test(start_paused = true)]
async fn retries_in_a_full_outage_stay_within_the_budget_however_long_it_lasts() {
    for breaker in [true, false] {
        let upstream = Upstream::always(Reply::code(Code::Unavailable));
        let (client, layer) = upstream.client(config());
        if !breaker {
            layer.breaker().force_closed();
        }
        let mut calls = Vec::new();
        // Ten minutes at 20 calls a second.
        for _ in 0..12_000 {
            let mut client = client.clone();
            calls.push(tokio::spawn(async move { validate(&mut client).await }));
            sleep(ms(50)).await;
        }
        let mut first_attempts = 0;
        for call in calls {
            let status = call.await.unwrap().unwrap_err();
            first_attempts += usize::from(Rejection::of(&status).is_none());
        }
        let retries = upstream.count() - first_attempts;
        assert!(retries <= 20 + 5, "{retries} retries, breaker: {breaker}");
        if breaker {
            assert!(
                first_attempts < 4000,
                "{first_attempts} of 12,000 were sent"
            );
        } else {
            assert_eq!(first_attempts, 12_000);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_retry_leaves_the_caller_the_last_real_status() {
    let upstream = Upstream::always(Reply::code(Code::Unavailable));
    let (mut client, layer) = upstream.client(config());
    let breaker = layer.breaker();
    let call = tokio::spawn(async move { validate(&mut client).await });
    // The first attempt fails at once; during the wait the circuit opens.
    while upstream.count() == 0 {
        tokio::task::yield_now().await;
    }
    breaker.force_open();

    let status = call.await.unwrap().unwrap_err();

    assert_eq!(
        status.message(),
        "",
        "the upstream's status, not the refusal's"
    );
    assert_eq!(Rejection::of(&status), None, "something was sent");
    let stopped = RetryStopped::of(&status).unwrap();
    assert_eq!(
        (stopped.reason(), stopped.attempts()),
        (StopReason::Refused, 1)
    );
    assert!(matches!(
        stopped.rejection(),
        Some(Rejection::CircuitOpen { .. })
    ));
    assert_eq!(
        layer.budget_tokens(),
        20.0,
        "the retry was paid for, and refunded"
    );
}

#[tokio::test(start_paused = true)]
async fn a_success_at_the_first_attempt_deposits_and_a_retry_that_succeeds_is_refunded() {
    let upstream = Upstream::new(|n| {
        if n < 6 {
            Reply::code(Code::Unavailable)
        } else {
            Reply::Valid
        }
    });
    let (mut client, layer) = upstream.client(config());
    validate(&mut client).await.unwrap_err();
    assert_eq!(layer.budget_tokens(), 18.0);
    validate(&mut client).await.unwrap_err();
    assert_eq!(layer.budget_tokens(), 16.0);
    validate(&mut client).await.unwrap();
    assert_eq!(layer.budget_tokens(), 16.2);

    upstream.becomes(Reply::Valid);
    for _ in 0..100 {
        validate(&mut client).await.unwrap();
    }
    assert_eq!(layer.budget_tokens(), 20.0, "no more than the bucket holds");
}

#[tokio::test]
async fn a_rejection_never_comes_from_poll_ready() {
    let upstream = Upstream::always(Reply::Valid);
    let mut config = config();
    config.limit.concurrency = 1;
    config.limit.queue = 0;
    let (_, layer) = upstream.client(config);
    let mut service = layer.layer(upstream.clone());
    layer.breaker().force_open();

    // Ready, although every call will be refused...
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let refused = service.call(Request::new(Body::empty())).await.unwrap_err();
    assert!(matches!(
        Rejection::of(&refused),
        Some(Rejection::CircuitOpen { .. })
    ));

    // ...and although the only slot is taken.
    layer.breaker().resume();
    upstream.becomes(Reply::Hang);
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let hanging = tokio::spawn(service.call(Request::new(Body::empty())));
    while layer.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let refused = service.call(Request::new(Body::empty())).await.unwrap_err();
    assert!(matches!(
        Rejection::of(&refused),
        Some(Rejection::LimitReached { .. })
    ));
    hanging.abort();
}

#[tokio::test(start_paused = true)]
async fn an_answer_pays_into_the_budget_and_refunds_the_retry_that_brought_it() {
    let upstream = Upstream::replies([
        Reply::code(Code::Unavailable),
        Reply::code(Code::Unavailable),
        Reply::code(Code::NotFound),
    ]);
    let (mut client, layer) = upstream.client(config());

    let status = validate(&mut client).await.unwrap_err();

    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(RetryStopped::of(&status).unwrap().retries(), 2);
    assert_eq!(
        layer.budget_tokens(),
        19.0,
        "the first retry failed, the second did not"
    );
    for _ in 0..5 {
        validate(&mut client).await.unwrap_err();
    }
    assert_eq!(layer.budget_tokens(), 20.0);
}

#[tokio::test(start_paused = true)]
async fn a_paid_retry_that_was_not_processed_and_sent_again_is_refunded_when_it_succeeds() {
    let upstream =
        Upstream::replies([Reply::code(Code::Unavailable), Reply::Refused, Reply::Valid]);
    let (mut client, layer) = upstream.client(config());

    validate(&mut client).await.unwrap();

    assert_eq!((upstream.count(), layer.budget_tokens()), (3, 20.0));
}

/// NOT_FOUND is no failure, and yet worth another attempt: what was written may
/// be found a moment later.
#[derive(Debug)]
struct NotFoundYet;

impl Classify for NotFoundYet {
    fn retry(&self, status: &Status) -> RetryRule {
        match status.code() {
            Code::NotFound => RetryRule::Idempotent,
            _ => GrpcClassifier.retry(status),
        }
    }

    fn outcome(&self, status: &Status) -> Outcome {
        GrpcClassifier.outcome(status)
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_retried_is_paid_for_like_a_failure() {
    let upstream = Upstream::always(Reply::code(Code::NotFound));
    let mut config = config();
    config.policies.classifier = Some(Arc::new(NotFoundYet));
    let (mut client, _) = upstream.client(config);
    for _ in 0..100 {
        validate(&mut client).await.unwrap_err();
    }
    // The budget's 20, and what the last answers of calls give back: one for
    // each call that was retried as often as may be, and a fifth for the rest.
    assert!(upstream.count() <= 100 + 20 + 100, "{}", upstream.count());
}

/// While the budget is empty, answers fill it again.
#[tokio::test(start_paused = true)]
async fn an_answer_whose_retry_cannot_be_paid_is_an_answer_for_the_budget() {
    let upstream = Upstream::always(Reply::code(Code::Unavailable));
    let mut config = config();
    config.policies.classifier = Some(Arc::new(NotFoundYet));
    config.budget.capacity = 1;
    config.retry.max_attempts = 2;
    let (mut client, layer) = upstream.client(config);
    validate(&mut client).await.unwrap_err();
    assert_eq!((upstream.count(), layer.budget_tokens()), (2, 0.0));

    upstream.becomes(Reply::code(Code::NotFound));
    for _ in 0..5 {
        let status = validate(&mut client).await.unwrap_err();
        assert_eq!(stopped(&status), Some(StopReason::Budget));
    }
    assert_eq!((upstream.count(), layer.budget_tokens()), (2 + 5, 1.0));
    validate(&mut client).await.unwrap_err();
    assert_eq!(upstream.count(), 2 + 5 + 2);
}

/// A body that is not complete when the call begins, as that of a caller who
/// streams: what it sends may depend on the answer.
#[tokio::test(start_paused = true)]
async fn the_response_to_a_streamed_request_is_not_held_back() {
    let upstream = Upstream::always(Reply::HangAfterHead);
    let (_, layer) = upstream.client(config());
    let late = Frame::data(Bytes::from_static(b"late"));
    let late = tokio_stream::once(Ok::<_, tonic::Status>(late));
    let body = Body::new(StreamBody::new(StartsLater(Box::pin(late), false)));
    let start = Instant::now();

    let response = layer
        .layer(upstream)
        .call(Request::new(body))
        .await
        .unwrap();

    assert!(start.elapsed() < ms(100), "{:?}", start.elapsed());
    assert!(!http_body::Body::is_end_stream(response.body()));
}

/// Not ready the first time that it is asked.
struct StartsLater<S>(std::pin::Pin<Box<S>>, bool);

impl<S: tokio_stream::Stream> tokio_stream::Stream for StartsLater<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        if !std::mem::replace(&mut self.1, true) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        self.0.as_mut().poll_next(cx)
    }
}
