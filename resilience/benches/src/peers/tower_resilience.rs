//! The crates of tower-resilience: the peer that does most.

use std::time::Duration;

use proto::user::ValidateUserRequest;
use tonic::Status;
use tower_layer::Layer as _;
use tower_resilience_bulkhead::{Bulkhead, BulkheadLayer, BulkheadServiceError};
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, DefaultClassifier,
};
use tower_resilience_retry::{Retry, RetryBudgetBuilder, RetryLayer};
use tower_resilience_timelimiter::{FixedTimeout, TimeLimiter, TimeLimiterLayer};
use tower_service::Service;

use super::typed::{Reply, Typed, on};
use crate::{
    rows::{BOTH, Call, ONCE, Row, Table},
    work::{Manner, Tiny, drive},
};

type Broken = CircuitBreakerError<Status>;
type Full = BulkheadServiceError<Broken>;

/// What it is called in tables. Its crates are told at build time whether to
/// record metrics, so there is a program for each.
pub(crate) const TITLE: &str = if cfg!(feature = "peers-metrics") {
    "tower-resilience: time limiter, retry, bulkhead, circuit breaker, metrics recorded"
} else {
    "tower-resilience: time limiter, retry, bulkhead, circuit breaker"
};

/// Its stack, in the order of ours: time, retries, limit, breaker.
pub(crate) type Stack<S> = TimeLimiter<
    Retry<Bulkhead<CircuitBreaker<Typed<S>, DefaultClassifier>>, ValidateUserRequest, Reply, Full>,
    FixedTimeout,
>;

/// The same settings as ours have, where there are such.
pub(crate) fn stack<S: Clone>(typed: Typed<S>, concurrency: usize) -> Stack<S> {
    let stack = breaker().layer(typed);
    let stack = bulkhead(concurrency).layer(stack);
    let stack = retry().layer(stack);
    time_limiter().layer(stack)
}

fn time_limiter() -> TimeLimiterLayer<FixedTimeout> {
    TimeLimiterLayer::builder()
        .timeout_duration(Duration::from_secs(1))
        .build()
}

fn retry<E>() -> RetryLayer<ValidateUserRequest, Reply, E> {
    let budget = RetryBudgetBuilder::new()
        .token_bucket()
        .max_tokens(20)
        .initial_tokens(20)
        .build();
    RetryLayer::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(25))
        .budget(budget.expect("the settings are valid"))
        .build()
}

fn bulkhead(concurrency: usize) -> BulkheadLayer {
    BulkheadLayer::builder()
        .max_concurrent_calls(concurrency)
        .max_wait_duration(Duration::from_millis(100))
        .build()
        .expect("the settings are valid")
}

pub(crate) fn breaker() -> CircuitBreakerLayer<DefaultClassifier> {
    CircuitBreakerLayer::standard()
        .build()
        .expect("its own preset is valid")
}

/// A breaker that has opened at a failure, for longer than anybody measures.
fn open() -> Call {
    let layer = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(1)
        .minimum_number_of_calls(1)
        .wait_duration_in_open(Duration::from_secs(3600))
        .build()
        .expect("the settings are valid");
    let mut service = layer.layer(Tiny::failing());
    drop(drive(call(&mut service)));
    Box::new(move || {
        let refused = drive(call(&mut service));
        assert!(matches!(refused, Err(CircuitBreakerError::OpenCircuit)));
    })
}

/// One call, after asking whether it may be made, as tower wants it.
async fn call<S: Service<http::Request<tonic::body::Body>>>(
    service: &mut S,
) -> Result<S::Response, S::Error> {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(Tiny::request()).await
}

pub(super) fn rows() -> Vec<Row> {
    let recorded = cfg!(feature = "peers-metrics");
    let mut rows = vec![Row {
        table: Table::Stack,
        id: if recorded {
            "tower-resilience-metrics"
        } else {
            "tower-resilience"
        },
        over: Some("bare"),
        title: TITLE,
        manners: BOTH,
        make: |manner| on::<{ line!() }, _>(|typed| stack(typed, 100), manner),
    }];
    let layer = |id, title, make: fn(Manner) -> Call| Row {
        table: Table::Layer,
        id,
        over: Some("typed"),
        title,
        manners: BOTH,
        make,
    };
    if !recorded {
        rows.extend([
            layer(
                "tower-resilience-timelimiter",
                "tower-resilience: time limiter",
                |manner| on::<{ line!() }, _>(|typed| time_limiter().layer(typed), manner),
            ),
            layer(
                "tower-resilience-retry",
                "tower-resilience: retry with a budget",
                |manner| on::<{ line!() }, _>(|typed| retry().layer(typed), manner),
            ),
            layer(
                "tower-resilience-bulkhead",
                "tower-resilience: bulkhead",
                |manner| on::<{ line!() }, _>(|typed| bulkhead(100).layer(typed), manner),
            ),
            layer(
                "tower-resilience-circuitbreaker",
                "tower-resilience: circuit breaker",
                |manner| on::<{ line!() }, _>(|typed| breaker().layer(typed), manner),
            ),
            Row {
                table: Table::Breaker,
                id: "tower-resilience-closed",
                over: Some("tiny"),
                title: "tower-resilience",
                manners: ONCE,
                make: |_| {
                    let mut service = breaker().layer(Tiny::succeeding());
                    Box::new(move || assert!(drive(call(&mut service)).is_ok()))
                },
            },
            Row {
                table: Table::Refusal,
                id: "tower-resilience-open",
                over: Some("request"),
                title: "tower-resilience",
                manners: ONCE,
                make: |_| open(),
            },
        ]);
    }
    rows
}
