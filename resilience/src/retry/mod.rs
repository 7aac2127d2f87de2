//! Attempts, until one is final.
//!
//! | file | what |
//! | --- | --- |
//! | `decision.rs` | to retry or not: a pure function |
//! | `budget.rs` | how many retries all calls together may make |
//! | `backoff.rs` | how long to wait; the one file that knows the `backoff` crate |
//! | `pushback.rs` | when the upstream says when |
//! | `replay.rs` | a request that can be sent again |
//! | `head.rs` | all of it but its body |
//! | `exchange.rs` | the exchange of one call: attempts and waits |
//! | `call.rs` | what one call knows, and what it does when an attempt fails |
//! | `commit.rs` | a response that the caller has been given |
//!
//! # gRPC retry (gRFC A6): what is the same, what is not
//!
//! The cases are those of the test suites of gRPC's own clients; each is a test
//! here with the same letter and number in its name, in `tests/stack/a6` and
//! `tests/wire/a6.rs`.
//!
//! | cases | what gRPC does | what happens here |
//! | --- | --- | --- |
//! | R: attempts | counts all but transparent retries, tells the upstream by `grpc-previous-rpc-attempts`; takes more than 5 for 5 | the same; 0, or more than 5, is an error of the configuration |
//! | C: commit | a response is final at its head | at its first message: most servers send a head before their handler fails, and such failures would never be retried. [`Commit::Headers`] is gRPC's rule, and that of streaming methods |
//! | C: replay | keeps what a caller streams, up to a bound of the call and one of the channel, and streams it again | keeps what is complete when the call begins, up to a bound (`replay_bytes_max`); what is streamed is sent once. All calls together keep at most the bound times the attempts that are in flight or wait for a slot, and the retries that the budget allows; those of methods that are exempt from the limit come on top |
//! | P: pushback | the delay; then backoff starts anew; negative or malformed means no | the same. Several values, or one of more than 32 bits, mean no: implementations differ, and this is the cautious reading |
//! | P, D: a delay that ends after the deadline | waits for the deadline, and says DEADLINE_EXCEEDED | answers at once, with the last real status; nothing would come of the wait but the wait |
//! | P: RESOURCE_EXHAUSTED | as its policy lists it | retried only when the upstream says when |
//! | B: backoff | ±20 % around the exponential | from zero to it ([`BackoffConfig`] says why) |
//! | T: throttle | stops while half of its tokens are gone; a token for each failure | [`BudgetConfig`]: a token for each retry, back when it succeeds. At 25 % failures that keeps 98.1 % of calls, and gRPC's 74.9 % |
//! | X: transparent retries | without end for what never left, once for what the upstream has not looked at, at the first attempt only | one per call for both, at any attempt; further ones wait and pay like others, so that an upstream that is not there is not called in a loop |
//! | D: an attempt that says nothing | an experiment; CANCELLED when it was the last | `attempt_timeout`; DEADLINE_EXCEEDED |
//!
//! A commit at the head, for all methods or for one, with the rest as it is:
//!
//! ```
//! use resilience::{Commit, ResilienceConfig, RetryConfig};
//!
//! let config = ResilienceConfig {
//!     retry: RetryConfig { commit: Commit::Headers, ..RetryConfig::default() },
//!     ..ResilienceConfig::default()
//! };
//! ```

mod backoff;
mod budget;
mod call;
mod commit;
mod decision;
mod exchange;
mod head;
mod pushback;
mod replay;

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use http::{Extensions, HeaderName, Request, Response};
use metrics::Gauge;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

pub(crate) use self::pushback::PUSHBACK_HEADER;
pub use self::{
    backoff::{Backoff, BackoffConfig},
    budget::{BudgetConfig, RetryBudget, TokenBucket},
    decision::StopReason,
    exchange::RetryExchange,
};
use crate::{
    config::{ConfigError, require},
    context::Context,
    deadline::requested,
    exchange::{ExchangeBody, ExchangeFuture, Sent},
    method_config::Commit,
    metrics::{RetriesStopped, RetryHandles, budget_tokens, retries},
    rejection::Rejection,
    upstream::{PerMethod, Upstream},
};

/// How many attempts were made before this one, for the upstream (gRFC A6).
const PREVIOUS_ATTEMPTS_HEADER: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// How often, and after which delay, an attempt is made again.
///
/// # Defaults
///
/// | field | default | reason |
/// | --- | --- | --- |
/// | `max_attempts` | 3 | the SRE book, the AWS SDKs and resilience4j agree |
/// | `backoff` | 25 ms doubling to 250 ms | see [`BackoffConfig`] |
/// | `commit` | at the first message | a handler that fails after its head can be retried |
/// | `replay_bytes_max` | 1 MiB | as grpc-java |
#[derive(Debug, Clone, PartialEq)]
pub struct RetryConfig {
    /// Attempts per call, the first included; 1 to 5 (gRFC A6). 1 means no
    /// retries but transparent ones, which are not counted here.
    pub max_attempts: u32,
    /// The delays between attempts.
    pub backoff: BackoffConfig,
    /// When a response is final.
    pub commit: Commit,
    /// Bytes of a request, encoded, that are kept to send it again; a larger
    /// one is sent once.
    pub replay_bytes_max: usize,
    /// Seeds the jitter, so that a test can be repeated. `None`: at random.
    pub seed: Option<u64>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: BackoffConfig::default(),
            commit: Commit::default(),
            replay_bytes_max: 1 << 20,
            seed: None,
        }
    }
}

impl RetryConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        Self::validate_attempts("retry.max_attempts", self.max_attempts)?;
        self.backoff.validate()
    }

    pub(crate) fn validate_attempts(field: &'static str, attempts: u32) -> Result<(), ConfigError> {
        require((1..=5).contains(&attempts), field, "1 to 5", attempts)
    }
}

/// Makes failed attempts again, where that is safe and there is time and
/// budget for it.
///
/// In order, when an attempt has failed:
///
/// 1. If the upstream provably has not processed it, it is sent again at once,
///    whatever the method; once per call, for nothing (a *transparent* retry).
/// 2. If the status is worth it, and the method is declared idempotent or the
///    upstream has not processed it, and attempts are left, and the upstream
///    has not asked to be spared, and the wait ends before the deadline, and
///    the budget pays, it is made again after the wait.
/// 3. Otherwise the caller gets its status; [`RetryStopped`] says why.
///
/// A response is held back until its first message, or its trailers: a status
/// in trailers can still be retried then, and a unary caller, who needs the
/// message anyway, loses no time. What a caller streams is sent once, and its
/// response is not held back, or both sides would wait for each other.
#[derive(Debug, Clone)]
pub struct RetryLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    config: RetryConfig,
    backoff: Arc<dyn Backoff>,
    budget: Arc<dyn RetryBudget>,
    tokens: Gauge,
    dice: Mutex<fastrand::Rng>,
    stopped: RetriesStopped,
    methods: PerMethod<Arc<RetryHandles>>,
}

impl Shared {
    /// Uniform in 0..1.
    fn dice(&self) -> f64 {
        self.dice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .f64()
    }
}

impl RetryLayer {
    /// Retries calls to `upstream`.
    #[must_use]
    pub fn new(upstream: &Upstream) -> Self {
        let config = upstream.config();
        let policies = &config.policies;
        let layer = Self {
            shared: Arc::new(Shared {
                backoff: match &policies.backoff {
                    Some(backoff) => Arc::clone(backoff),
                    None => Arc::new(config.retry.backoff),
                },
                budget: match &policies.budget {
                    Some(budget) => Arc::clone(budget),
                    None => Arc::new(TokenBucket::full(config.budget)),
                },
                tokens: budget_tokens(upstream.name()),
                dice: Mutex::new(
                    config
                        .retry
                        .seed
                        .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
                ),
                stopped: RetriesStopped::new(upstream.name()),
                methods: retries(upstream),
                config: config.retry.clone(),
                upstream: upstream.clone(),
            }),
        };
        layer.refresh_metrics();
        layer
    }

    /// Makes the attempts of `inner` again.
    pub(crate) fn exchange<X>(&self, inner: X) -> RetryExchange<X> {
        RetryExchange::new(inner, &self.shared)
    }

    /// Tokens in the retry budget: the retries that it allows at this moment.
    #[must_use]
    pub fn budget_tokens(&self) -> f64 {
        self.shared.budget.tokens()
    }

    /// Brings the gauge of the budget up to date: to be called before each
    /// scrape. [`ResilienceLayer`](crate::ResilienceLayer) does it for all its
    /// layers.
    pub fn refresh_metrics(&self) {
        self.shared.tokens.set(self.budget_tokens());
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Makes failed attempts again: see [`RetryLayer`].
///
/// # Errors
/// The status of the last attempt, with [`RetryStopped`] as its source; or the
/// [`Rejection`] of the first. An answer to the first, such as NOT_FOUND, and a
/// failure after the first message, are passed on as they are.
///
/// # Cancellation
/// Dropping the call drops the attempt under way. What was paid for a retry goes
/// back to the budget while the retry waits for its delay; after that, in the
/// queue of the limit too, it is spent.
#[derive(Debug, Clone)]
pub struct Retry<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B> Service<Request<Body>> for Retry<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Status> + Clone,
    B: http_body::Body<Data = Bytes, Error = Status>,
{
    type Response = Response<ExchangeBody<RetryExchange<Sent<S, S::Future, B>>>>;
    type Error = Status;
    type Future = ExchangeFuture<RetryExchange<Sent<S, S::Future, B>>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut context = Context::of_layer(&request);
        // Without our deadline above, the caller's own still holds.
        context.shorten(requested(request.headers()));
        let exchange = RetryExchange::new(Sent::new(self.inner.clone()), &self.shared);
        ExchangeFuture::start(exchange, request, context)
    }
}

/// Why a call that failed was not tried again; the source of its [`Status`].
///
/// Its own source is that of the last attempt's status.
#[derive(Debug)]
pub struct RetryStopped {
    reason: StopReason,
    attempts: u32,
    retries: u32,
    rejection: Option<Rejection>,
    last: Status,
}

impl RetryStopped {
    /// What stopped the retries of the call behind `status`, if it came this far.
    #[must_use]
    pub fn of(status: &Status) -> Option<&Self> {
        status.source()?.downcast_ref()
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> StopReason {
        self.reason
    }

    /// Attempts that were sent, transparent retries included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Retries among them, transparent ones not counted.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// The rejection of the retry, when that is what stopped it.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }

    /// The status of the last attempt, with this as its source.
    fn into_status(self) -> Status {
        let mut status = self.last.clone();
        status.set_source(Arc::new(self));
        status
    }
}

impl fmt::Display for RetryStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(f, "not retried after {} attempt{plural}: ", self.attempts)?;
        match &self.rejection {
            Some(rejection) => rejection.fmt(f),
            None => f.write_str(self.reason.as_str()),
        }
    }
}

impl Error for RetryStopped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.source()
    }
}

/// How a call that succeeded got there; an extension of its response.
///
/// ```
/// # use resilience::Attempts;
/// # fn handle(response: &tonic::Response<()>) {
/// if Attempts::of(response.extensions()).retries > 0 { /* it took more than one */ }
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempts {
    /// Retries, transparent ones not counted.
    pub retries: u32,
    /// Transparent retries.
    pub transparent: u32,
}

impl Attempts {
    /// What the extensions of a response say; none at all means no retries.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }
}
