//! The layers, in order. The only file that knows it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    attempt_timeout::AttemptTimeoutPolicy,
    breaker::{Breaker, BreakerPolicy},
    config::{ConfigError, ResilienceConfig},
    context::Context as CallContext,
    deadline::DeadlinePolicy,
    edge::{BoxError, Edge, EdgeBody, EdgeFuture, EdgeLayer},
    exchange::{ExchangeBody, ExchangeFuture, Pool, Sent},
    guard::{EndedBelow, GuardedExchange, OneTimer, Pair},
    limit::LimitPolicy,
    metrics::{self, AttemptMetricsPolicy, CallMetricsPolicy},
    retry::{RetryExchange, RetryLayer},
    trace::TracePolicy,
    upstream::Upstream,
};

/// The whole of it: wrap a channel once, and every call of a generated client
/// gets a deadline that is true, retries that cannot become a storm, a
/// concurrency limit and a circuit breaker.
///
/// One layer stands for one upstream. Its clones, and all services that it
/// makes, share one budget, one limit and one breaker.
#[derive(Debug, Clone)]
pub struct ResilienceLayer {
    upstream: Upstream,
    of_calls: Arc<OfCalls>,
    retry: RetryLayer,
    of_attempts: Arc<OfAttempts>,
}

/// What is asked once per call. Outermost first.
type OfCalls = Pair<Pair<TracePolicy, CallMetricsPolicy>, DeadlinePolicy>;

/// What is asked for each attempt. Outermost first.
type OfAttempts = Pair<
    Pair<Pair<Pair<LimitPolicy, BreakerPolicy>, AttemptMetricsPolicy>, AttemptTimeoutPolicy>,
    TracePolicy,
>;

impl ResilienceLayer {
    /// The stack for calls to `upstream`, a name for metrics and messages.
    ///
    /// Install the recorder of metrics first: what exists from the start is
    /// registered with it now, and the rest, such as a rare status, when it is
    /// first seen.
    ///
    /// # Errors
    /// The first rule that `config` breaks.
    pub fn new(upstream: &str, config: ResilienceConfig) -> Result<Self, ConfigError> {
        let upstream = &Upstream::new(upstream, config)?;
        metrics::describe();
        Ok(Self {
            of_calls: Arc::new(Pair {
                outer: Pair {
                    // All that is decided below is an event of its span.
                    outer: TracePolicy::of_calls(upstream),
                    // Sees what the caller sees, whatever happens inside.
                    inner: CallMetricsPolicy::new(upstream),
                },
                // Everything below waits inside it. It needs no timer of its
                // own: retries and the limit wait no longer than it allows, and
                // attempts are ended by it.
                inner: DeadlinePolicy::new(upstream, false),
            }),
            // Inside the deadline, so that no wait outlives the call.
            retry: RetryLayer::new(upstream),
            of_attempts: Arc::new(Pair {
                outer: Pair {
                    outer: Pair {
                        outer: Pair {
                            // A slot per attempt, and none held between
                            // attempts. Outside the breaker, so that an attempt
                            // asks it when it can really be sent.
                            outer: LimitPolicy::new(upstream),
                            // Asked by each attempt, retries included: each
                            // says something about the upstream, and an open
                            // circuit stops the retries of calls that are under
                            // way.
                            inner: BreakerPolicy::new(upstream),
                        },
                        // Inside everything that refuses: a refusal is no
                        // attempt.
                        inner: AttemptMetricsPolicy::new(upstream),
                    },
                    // Inside the breaker, so that an upstream that hangs trips
                    // it.
                    inner: AttemptTimeoutPolicy::new(upstream),
                },
                // Around the channel alone: a refusal makes no span of an
                // attempt.
                inner: TracePolicy::of_attempts(upstream),
            }),
            upstream: upstream.clone(),
        })
    }

    fn limit(&self) -> &LimitPolicy {
        &self.of_attempts.outer.outer.outer.outer
    }

    fn breakers(&self) -> &BreakerPolicy {
        &self.of_attempts.outer.outer.outer.inner
    }

    /// The circuit breaker of this upstream: to look at, and to force.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        self.breakers().breaker()
    }

    /// The circuit breaker of `method` (`package.Service/Method`), if it has
    /// one of its own.
    #[must_use]
    pub fn breaker_of(&self, method: &str) -> Option<Breaker> {
        self.breakers().breaker_of(method)
    }

    /// The upstream that it stands for.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Retries that the budget allows at this moment.
    #[must_use]
    pub fn budget_tokens(&self) -> f64 {
        self.retry.budget_tokens()
    }

    /// Attempts in flight at this moment.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limit().in_flight()
    }

    /// Attempts waiting for a slot at this moment.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.limit().queued()
    }

    /// Brings the gauges up to date: budget, limit, failure ratio, time in
    /// state. To be called before each scrape, or every second or so.
    pub fn refresh_metrics(&self) {
        self.retry.refresh_metrics();
        self.limit().refresh_metrics();
        self.breakers().refresh_metrics();
    }
}

/// The order, outermost first.
type Stack<S> = GuardedExchange<
    RetryExchange<GuardedExchange<Sent<Edge<S>, EdgeFuture<S>, EdgeBody>, OfAttempts, OneTimer>>,
    OfCalls,
    EndedBelow,
>;

impl<S> Layer<S> for ResilienceLayer
where
    S: Service<Request<Body>>,
{
    type Service = Resilience<S>;

    fn layer(&self, channel: S) -> Resilience<S> {
        // As many as may be under way at once, within reason.
        let idle = self.upstream.config().limit.concurrency.min(IDLE_MAX);
        Resilience {
            made: Arc::new(Made {
                layer: self.clone(),
                // One vocabulary of errors for everything above.
                channel: Mutex::new(EdgeLayer.layer(channel)),
            }),
            idle: Arc::new(Pool::new(idle)),
        }
    }
}

/// Exchanges in one stack of the pool: about 1 KiB each.
const IDLE_MAX: usize = 256;

/// A channel with the whole stack around it, for generated clients.
///
/// A cheap handle: its clones share the channel. Of that a clone is made for as
/// many calls as are under way at once, and serves one call after another: what
/// differs between clones must not matter.
///
/// # Errors
/// Always a [`Status`]: from the upstream; from the transport, with
/// [`TransportError`](crate::TransportError) among its sources; from a timer
/// here, with [`TimedOut`](crate::TimedOut); or a refusal, with
/// [`Rejection`](crate::Rejection).
///
/// # Cancellation
/// Dropping a call, or its response, resets the stream and gives back slot and
/// probe. It counts for nothing, unless its deadline had passed, and no message
/// of a stream had come: then it counts as a failure.
pub struct Resilience<S>
where
    S: Service<Request<Body>>,
{
    made: Arc<Made<S>>,
    idle: Arc<Pool<Stack<S>>>,
}

/// What an exchange is made from.
#[derive(Debug)]
struct Made<S> {
    layer: ResilienceLayer,
    channel: Mutex<Edge<S>>,
}

impl<S> Made<S>
where
    S: Service<Request<Body>> + Clone,
{
    /// Read from the bottom: each line wraps what stands above it.
    fn exchange(&self, context: CallContext) -> Stack<S> {
        let layer = &self.layer;
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let stack = Sent::new(channel.clone());
        drop(channel);
        let stack = GuardedExchange::new(stack, &layer.of_attempts, context);
        let stack = layer.retry.exchange(stack);
        GuardedExchange::new(stack, &layer.of_calls, context)
    }
}

impl<S> Clone for Resilience<S>
where
    S: Service<Request<Body>>,
{
    fn clone(&self) -> Self {
        Self {
            made: Arc::clone(&self.made),
            idle: Arc::clone(&self.idle),
        }
    }
}

impl<S> fmt::Debug for Resilience<S>
where
    S: Service<Request<Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resilience")
            .field("layer", &self.made.layer)
            .finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<Body>> for Resilience<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<S>>;
    type Error = Status;
    type Future = ResponseFuture<S>;

    /// Always ready, and never an error: see [`Edge`].
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture<S> {
        let context = CallContext::of_call(&request, &self.made.layer.upstream);
        let make = || self.made.exchange(context);
        ResponseFuture {
            inner: ExchangeFuture::start_again(&self.idle, make, request, context),
        }
    }
}

/// The future of a call through [`Resilience`].
pub struct ResponseFuture<S>
where
    S: Service<Request<Body>>,
{
    inner: ExchangeFuture<Stack<S>>,
}

impl<S, B> Future for ResponseFuture<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<S>>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.inner).poll(cx))?;
        Poll::Ready(Ok(response.map(|inner| ResponseBody { inner })))
    }
}

impl<S> fmt::Debug for ResponseFuture<S>
where
    S: Service<Request<Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// The response body of a call through [`Resilience`]; the attempt, and the
/// call, are over when it is.
pub struct ResponseBody<S>
where
    S: Service<Request<Body>>,
{
    inner: ExchangeBody<Stack<S>>,
}

/// A body that is over.
impl<S> Default for ResponseBody<S>
where
    S: Service<Request<Body>>,
{
    fn default() -> Self {
        Self {
            inner: ExchangeBody::default(),
        }
    }
}

impl<S, B> http_body::Body for ResponseBody<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Status;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<S> fmt::Debug for ResponseBody<S>
where
    S: Service<Request<Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
