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
//!     Err(status) => println!("sent, and failed: {status}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # The stack
//!
//! Outermost first:
//!
//! ```text
//! call metrics        one row per call, whatever happens inside
//! deadline            everything below waits inside it
//! retry               attempts, backoff, budget; never past the deadline
//! concurrency limit   a slot per attempt, none held between attempts
//! circuit breaker     each attempt asks; a refusal is never retried
//! attempt metrics     one row per attempt that is really sent
//! attempt timeout     inside the breaker, so that a hung upstream trips it
//! edge                one vocabulary of errors
//! channel             tonic's
//! ```
//!
//! [`ResilienceLayer`] puts them in this order; each is a tower layer of its
//! own, in [`layers`]. They know nothing of each other. What they have to say
//! goes down in the extensions of the request ([`Deadline`]) and comes up as a
//! [`Status`](tonic::Status) with a typed cause:
//!
//! | cause | meaning |
//! | --- | --- |
//! | [`Rejection`] | refused here, nothing was sent |
//! | [`TimedOut`] | it was sent, and time ran out here |
//! | [`TransportError`] | it was sent, or could not be, and the transport failed |
//! | [`RetryStopped`] | why a failure was not tried again; one of the above may lie beneath it |
//! | nothing else | the upstream answered so |

mod attempt_timeout;
mod breaker;
mod cause;
mod classify;
mod config;
mod connect;
mod context;
mod deadline;
mod edge;
mod guard;
mod limit;
mod method;
mod method_config;
mod metrics;
mod policies;
mod rejection;
mod retry;
mod stack;
mod upstream;

pub use self::{
    breaker::{Breaker, BreakerConfig, BreakerState, Transition, TransitionReason},
    classify::{Classify, GrpcClassifier, Outcome, RetryRule},
    config::{ConfigError, ResilienceConfig},
    connect::{ConnectConfig, connect},
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
        deadline::{DeadlineLayer, DeadlinePolicy, InboundDeadline, WithDeadline},
        edge::{Edge, EdgeBody, EdgeFuture, EdgeLayer},
        guard::{Guarded, GuardedBody, GuardedFuture},
        limit::{ConcurrencyLimit, ConcurrencyLimitLayer, LimitPolicy},
        metrics::{
            AttemptMetrics, AttemptMetricsLayer, AttemptMetricsPolicy, CallMetrics,
            CallMetricsLayer, CallMetricsPolicy,
        },
        retry::{Retry, RetryBody, RetryFuture, RetryLayer},
    };
}
