//! All that is used of `resilience`, and nothing but its public API.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use metrics::{NoopRecorder, with_local_recorder};
use proto::user;
#[cfg(feature = "peers")]
use resilience::LimitConfig;
use resilience::{
    Breaker, BreakerConfig, BreakerState, Outcome, ResilienceConfig, ResilienceLayer,
    Upstream as Named,
    layers::{
        AttemptMetricsLayer, AttemptTimeoutLayer, BreakerLayer, CallMetricsLayer,
        ConcurrencyLimitLayer, DeadlineLayer, EdgeLayer, RetryLayer,
    },
};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    direct::Direct,
    room,
    rows::{BOTH, Call, ONCE, Row, Table, by_hand, refused},
    work::{Caller, Client, Manner, Tiny, Upstream, drive},
};

/// The name of the upstream in metrics.
const UPSTREAM: &str = "user-service";

/// The defaults, for the methods of the user service.
pub(crate) fn config() -> ResilienceConfig {
    ResilienceConfig {
        methods: user::METHODS.into(),
        idempotent: user::IDEMPOTENT_METHODS.into(),
        ..ResilienceConfig::default()
    }
}

/// The whole stack, with room for `concurrency` attempts.
#[cfg(feature = "peers")]
pub(crate) fn roomy(concurrency: usize) -> ResilienceLayer {
    let config = ResilienceConfig {
        limit: LimitConfig {
            concurrency,
            ..LimitConfig::default()
        },
        ..config()
    };
    ResilienceLayer::new(UPSTREAM, config).expect("the limit is positive")
}

fn stack() -> ResilienceLayer {
    ResilienceLayer::new(UPSTREAM, config()).expect("the defaults are valid")
}

/// A breaker that opens at the first failure, for longer than anybody measures.
fn brittle() -> BreakerConfig {
    BreakerConfig {
        consecutive_failures: 1,
        consecutive_at_least: Duration::ZERO,
        open_initial: Duration::from_secs(3600),
        open_max: Duration::from_secs(3600),
        ..BreakerConfig::default()
    }
}

fn breaker(config: BreakerConfig) -> BreakerLayer {
    BreakerLayer::new(&named(ResilienceConfig {
        breaker: config,
        ..self::config()
    }))
}

/// The breaker and the least that it can guard, for others to hammer.
#[cfg(feature = "peers")]
pub(crate) fn guarded_tiny() -> impl Service<
    Request<Body>,
    Response = Response<impl http_body::Body + Send>,
    Error = Status,
    Future: Send,
> + Clone
+ Send
+ 'static {
    breaker(BreakerConfig::default()).layer(Tiny::succeeding())
}

/// A breaker that a failure has opened, through `fail`.
fn open_breaker(fail: impl FnOnce(&BreakerLayer)) -> BreakerLayer {
    let layer = breaker(brittle());
    fail(&layer);
    assert_eq!(layer.breaker().state(), BreakerState::Open);
    layer
}

/// A generated client on the whole stack, on the service in memory.
fn on_stack<const ROW: u32>(manner: Manner) -> Call {
    by_hand(Client::new(stack().layer(Upstream::<ROW>::new(manner))))
}

/// One layer on the service in memory.
fn on<const ROW: u32, L, S, B>(layer: L, manner: Manner) -> Call
where
    L: Layer<Upstream<ROW>, Service = S>,
    S: Service<Request<Body>, Response = Response<B>, Error = Status> + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error = Status> + Send + 'static,
{
    by_hand(Direct::new(layer.layer(Upstream::new(manner))))
}

/// The rows of this library.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = stacks();
    rows.extend(layers());
    rows.extend(breakers());
    rows
}

fn stacks() -> Vec<Row> {
    let row = |id, title, make| Row {
        table: Table::Stack,
        id,
        over: Some("bare"),
        title,
        manners: BOTH,
        make,
    };
    vec![
        row(
            "stack",
            "**resilience: the whole stack, metrics recorded**",
            |manner| on_stack::<{ line!() }>(manner),
        ),
        row(
            "stack-cloned",
            "the same, the client cloned for each call",
            |manner| {
                let client = Client::new(stack().layer(Upstream::<{ line!() }>::new(manner)));
                Box::new(move || assert!(drive(client.clone().call())))
            },
        ),
        row(
            "stack-drained",
            "the same as the first, and the recorder's upkeep every 512 calls",
            |manner| {
                let mut call = on_stack::<{ line!() }>(manner);
                let mut calls = 0;
                Box::new(move || {
                    call();
                    calls += 1;
                    if calls % room::CALLS_PER_UPKEEP == 0 {
                        room::upkeep();
                    }
                })
            },
        ),
        row(
            "stack-unrecorded",
            "the same as the first, with no recorder installed",
            |manner| with_local_recorder(&NoopRecorder, || on_stack::<{ line!() }>(manner)),
        ),
    ]
}

fn layers() -> Vec<Row> {
    let row = |id, title, make| Row {
        table: Table::Layer,
        id,
        over: Some("direct"),
        title,
        manners: BOTH,
        make,
    };
    vec![
        row(
            "stack-direct",
            "**resilience: all of the following, as the stack has them**",
            |manner| on::<{ line!() }, _, _, _>(stack(), manner),
        ),
        row("call-metrics", "resilience: call metrics", |manner| {
            on::<{ line!() }, _, _, _>(CallMetricsLayer::new(&named(config())), manner)
        }),
        row("deadline", "resilience: deadline", |manner| {
            on::<{ line!() }, _, _, _>(DeadlineLayer::new(&named(config())), manner)
        }),
        row("retry", "resilience: retry", |manner| {
            on::<{ line!() }, _, _, _>(RetryLayer::new(&named(config())), manner)
        }),
        row("limit", "resilience: concurrency limit", |manner| {
            on::<{ line!() }, _, _, _>(ConcurrencyLimitLayer::new(&named(config())), manner)
        }),
        row("breaker", "resilience: circuit breaker", |manner| {
            on::<{ line!() }, _, _, _>(breaker(BreakerConfig::default()), manner)
        }),
        row("attempt-metrics", "resilience: attempt metrics", |manner| {
            on::<{ line!() }, _, _, _>(AttemptMetricsLayer::new(&named(config())), manner)
        }),
        row("attempt-timeout", "resilience: attempt timeout", |manner| {
            on::<{ line!() }, _, _, _>(AttemptTimeoutLayer::new(&named(config())), manner)
        }),
        row("edge", "resilience: edge", |manner| {
            on::<{ line!() }, _, _, _>(EdgeLayer, manner)
        }),
    ]
}

/// What single layers are made from.
fn named(config: ResilienceConfig) -> Named {
    Named::new(UPSTREAM, config).expect("it is valid")
}

fn breakers() -> Vec<Row> {
    vec![
        Row {
            table: Table::Breaker,
            id: "breaker-closed",
            over: Some("tiny"),
            title: "resilience: admit and settle",
            manners: ONCE,
            make: |_| {
                let mut service = breaker(BreakerConfig::default()).layer(Tiny::succeeding());
                Box::new(move || assert!(drive(service.call(Tiny::request())).is_ok()))
            },
        },
        Row {
            table: Table::Breaker,
            id: "breaker-alone",
            over: Some("nothing"),
            title: "resilience: admit and settle, without a layer",
            manners: ONCE,
            make: |_| {
                let breaker =
                    Breaker::new(UPSTREAM, BreakerConfig::default()).expect("it is valid");
                let now = Instant::now();
                Box::new(move || {
                    let pass = breaker.acquire(black_box(now)).expect("it is closed");
                    pass.settle(Outcome::Success, black_box(now));
                })
            },
        },
        Row {
            table: Table::Refusal,
            id: "breaker-alone-open",
            over: Some("nothing"),
            title: "resilience: the breaker without a layer",
            manners: ONCE,
            make: |_| {
                let breaker = Breaker::new(UPSTREAM, brittle()).expect("it is valid");
                let now = Instant::now();
                let pass = breaker.acquire(now).expect("it is closed");
                pass.settle(Outcome::Failure, now);
                Box::new(move || assert!(breaker.acquire(black_box(now)).is_err()))
            },
        },
        Row {
            table: Table::Refusal,
            id: "breaker-open",
            over: Some("request"),
            title: "resilience: the breaker's layer",
            manners: ONCE,
            make: |_| {
                let layer = open_breaker(|layer| {
                    let mut failing = layer.layer(Tiny::failing());
                    assert!(drive(failing.call(Tiny::request())).is_err());
                });
                let mut service = layer.layer(Tiny::succeeding());
                Box::new(move || assert!(drive(service.call(Tiny::request())).is_err()))
            },
        },
        Row {
            table: Table::Refusal,
            id: "stack-open",
            over: Some("refused"),
            title: "resilience: the whole stack, through the generated client",
            manners: ONCE,
            make: |_| {
                let config = ResilienceConfig {
                    breaker: brittle(),
                    ..config()
                };
                let layer = ResilienceLayer::new(UPSTREAM, config).expect("it is valid");
                let mut failing = Client::new(layer.layer(Upstream::<0>::new(Manner::Failing)));
                assert!(!drive(failing.call()));
                assert_eq!(layer.breaker().state(), BreakerState::Open);
                refused(Client::new(
                    layer.layer(Upstream::<{ line!() }>::new(Manner::AtOnce)),
                ))
            },
        },
    ]
}
