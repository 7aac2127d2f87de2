//! A gRPC client that stays useful while the service behind it fails, and shows
//! what it did about it.
//!
//! Wrap a tonic channel once, and every call of a generated client gets a
//! deadline that is true, retries that cannot become a storm, a concurrency
//! limit and a circuit breaker, each visible in Prometheus.
//!
//! ```
//! use std::time::Duration;
//!
//! use proto::user::{self, ValidateUserRequest, user_service_client::UserServiceClient};
//! use resilience::{ConnectConfig, Rejection, ResilienceConfig, ResilienceLayer};
//! use tower_layer::Layer as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let channel = resilience::connect("http://localhost:1", ConnectConfig::default())?; // lazy
//! let resilience = ResilienceLayer::new("user-service", ResilienceConfig {
//!     deadline: Duration::from_millis(500),
//!     methods: user::METHODS.into(),
//!     idempotent: user::IDEMPOTENT_METHODS.into(),
//!     ..ResilienceConfig::default()
//! })?;
//! let mut users = UserServiceClient::new(resilience.layer(channel));
//!
//! match users.validate_user(ValidateUserRequest { user_id: "user-123".into() }).await {
//!     Ok(reply) => println!("{}", reply.into_inner().valid),
//!     Err(status) if Rejection::of(&status).is_some() => println!("refused here: {status}"),
//!     Err(status) => println!("failed: {status}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # The stack
//!
//! ```text
//!            the call                                the answer
//!               │                                        ▲
//!   ┌───────────▼────────────────────────────────────────┴───────────┐
//!   │ call metrics      one row per call, whatever happens inside     │
//!   │ ┌───────────────────────────────────────────────────────────┐   │
//!   │ │ deadline        everything below waits inside it          │   │
//!   │ │ ┌───────────────────────────────────────────────────────┐ │   │
//!   │ │ │ retry         attempts, backoff, budget               │ │   │
//!   │ │ │ ┌───────────────────────────────────────────────────┐ │ │   │
//!   │ │ │ │ concurrency limit   a slot per attempt            │ │ │   │
//!   │ │ │ │ circuit breaker     each attempt asks             │ │ │   │
//!   │ │ │ │ attempt metrics     what is really sent           │ │ │   │
//!   │ │ │ │ attempt timeout     a hung upstream trips it      │ │ │   │
//!   │ │ │ │ edge                one vocabulary of errors      │ │ │   │
//!   └─┴─┴─┴───────────┬────────────────────────────▲──────────┴─┴─┴───┘
//!                     ▼           channel          │
//! ```
//!
//! [`ResilienceLayer`] puts the layers in this order; each is a tower layer of
//! its own, in [`layers`]. They know nothing of each other. What they have to
//! say goes down beside the request (between layers that were composed by hand,
//! as [`Deadline`] among its extensions) and comes up as a
//! [`Status`](tonic::Status) with a typed cause:
//!
//! | cause | meaning |
//! | --- | --- |
//! | [`Rejection`] | refused here, nothing was sent |
//! | [`TimedOut`] | it was sent, and time ran out here |
//! | [`TransportError`] | it could not be sent, or was, and the transport failed |
//! | [`RetryStopped`] | why a failure was not tried again; one of the above may lie beneath it |
//! | nothing else | the upstream answered so |
//!
//! # The order of events
//!
//! Of a call whose first attempt fails and whose second succeeds:
//!
//! 1. Its deadline is fixed: the least of the request's own `grpc-timeout`, of
//!    what the call that is being served has left, and of the configuration.
//!    With nothing left it is refused, and nothing is sent.
//! 2. Its request is kept, if it is complete: that of a unary call is.
//! 3. The first attempt asks for a slot, and may wait a little in a bounded
//!    queue; then it asks the breaker. Either may refuse.
//! 4. It is sent, with `grpc-timeout` saying what it has. Its timer starts.
//! 5. It fails. The breaker and the metrics are told, and the slot is free.
//! 6. Whether to try again is decided: by the status, by whether the method is
//!    idempotent, by attempts and time left, by what the upstream asks for,
//!    and at last by the budget, which pays now.
//! 7. The delay passes, and the second attempt goes through 3 and 4, with
//!    `grpc-previous-rpc-attempts: 1`.
//! 8. Its first message arrives, and with it the answer is final: it goes to
//!    the caller. Until then nothing had been given away.
//! 9. Its trailers say OK. The breaker, the slot, the metrics and the budget,
//!    which gets back what was paid, follow this end, not the head.
//!
//! A caller that goes away ends all of it at any point, and nothing counts
//! against the upstream, unless the deadline had passed, and no message of a
//! stream had come: then somebody stopped waiting for it. A retry that was begun
//! stays paid for.
//!
//! Interceptors that may refuse a call (tonic's `with_interceptor`) go around
//! the stack. Beneath it, what they say cannot be told from an answer of the
//! upstream: tonic makes one of it.
//!
//! # What tonic does today, and what changes
//!
//! Measured with tonic 0.14.
//!
//! | | tonic's channel alone | through this stack |
//! | --- | --- | --- |
//! | a timeout | covers the response head: not connecting, not the body; says CANCELLED | covers everything to the last trailer; says DEADLINE_EXCEEDED |
//! | a connection that breaks | UNKNOWN | UNAVAILABLE, and whether the upstream can have seen the call ([`Delivery`]) |
//! | a stream that is reset | a code that depends on Cargo features that any crate may turn on | gRPC's own table |
//! | an error page of a proxy | INTERNAL, read as a message | the code that gRPC gives its HTTP status |
//! | details that are not base64 | a panic in the task of the caller | the status without them |
//! | a call that meets a graceful close | 4 to 12 % fail | sent again: it was not processed |
//! | a failed call | fails | retried where that is safe, within a budget |
//! | status in trailers, after a head | cannot be retried | retried until the first message |
//! | a hung upstream | hangs the caller | opens the circuit in half a second |
//! | a limit | let go at the head; waits without bound | held to the end; waits in a bounded queue |
//!
//! # Streams
//!
//! Client, server and bidirectional streams pass through every layer. What a
//! caller streams is sent once. A method that answers with a stream is declared
//! in [`ResilienceConfig::streaming`]: its head is passed on at once, and the
//! attempt timeout ends at its first message. Its deadline is that of the whole
//! stream; [`MethodConfig`] gives it another, or none, and may exempt it from
//! the limit.
//!
//! # What can be seen
//!
//! Metrics go through the `metrics` crate; install a recorder first, and tell it
//! [`DURATION_BUCKETS`] and [`COUNT_BUCKETS`]; before each scrape call
//! [`ResilienceLayer::refresh_metrics`]. Spans, one per call and one per
//! attempt (gRFC A72), go through `tracing`, at level DEBUG.
//! [`ResilienceLayer::breaker`] shows the circuit, and why it last opened.
//!
//! # Examples
//!
//! In `examples/`, each with an upstream of its own, to be run as it is:
//!
//! | `cargo run -p resilience --example` | |
//! | --- | --- |
//! | `minimal` | a client to begin with |
//! | `streaming` | a method that answers with a stream, and lasts |
//! | `metrics` | what Prometheus is shown |
//! | `deadline` | a service in between, which passes its caller's deadline on |
//! | `compose` | the layers composed by hand |
//! | `classifier` | a classifier, a backoff and a budget of one's own |
//!
//! # What can be replaced
//!
//! [`Policies`] takes a classifier, a backoff and a retry budget of your own.
//! Every setting is plain data; [`ResilienceConfig`] lists the defaults with
//! their reasons.

mod attempt_timeout;
mod breaker;
mod cause;
mod classify;
mod config;
mod connect;
mod context;
mod deadline;
mod edge;
mod exchange;
mod guard;
mod limit;
mod method;
mod method_config;
mod metrics;
mod policies;
mod rejection;
mod retry;
mod stack;
mod trace;
mod upstream;

pub use self::{
    breaker::{
        Breaker, BreakerConfig, BreakerState, Pass, Transition, TransitionReason, Transitions,
    },
    classify::{Classify, GrpcClassifier, Outcome, RetryRule},
    config::{ConfigError, ResilienceConfig},
    connect::{ConnectConfig, connect, connect_through},
    deadline::{Deadline, InboundDeadlineLayer, Scope, TimedOut},
    edge::{Delivery, TransportError},
    limit::LimitConfig,
    method::MethodSet,
    method_config::{Commit, MethodConfig, TimeLimit},
    metrics::{COUNT_BUCKETS, DURATION_BUCKETS, describe as describe_metrics},
    policies::Policies,
    rejection::Rejection,
    retry::{
        Attempts, Backoff, BackoffConfig, BudgetConfig, RetryBudget, RetryConfig, RetryStopped,
        StopReason, TokenBucket,
    },
    stack::{Resilience, ResilienceLayer, ResponseBody, ResponseFuture},
    upstream::Upstream,
};

/// Each layer by itself, for who composes them by hand.
///
/// All but [`EdgeLayer`](layers::EdgeLayer) ask for a service below that speaks
/// the vocabulary of the edge, so the edge goes innermost, around the channel.
pub mod layers {
    pub use crate::{
        attempt_timeout::{AttemptTimeout, AttemptTimeoutLayer, AttemptTimeoutPolicy},
        breaker::{BreakerLayer, BreakerPolicy, CircuitBreaker},
        deadline::{
            DeadlineLayer, DeadlinePolicy, InboundDeadline, InboundDeadlineFuture, WithDeadline,
        },
        edge::{Edge, EdgeBody, EdgeFuture, EdgeLayer},
        exchange::{ExchangeBody, ExchangeFuture, Sent},
        guard::{Guarded, GuardedExchange, OneTimer},
        limit::{ConcurrencyLimit, ConcurrencyLimitLayer, LimitPolicy},
        metrics::{
            AttemptMetrics, AttemptMetricsLayer, AttemptMetricsPolicy, CallMetrics,
            CallMetricsLayer, CallMetricsPolicy,
        },
        retry::{Retry, RetryExchange, RetryLayer},
    };
}
