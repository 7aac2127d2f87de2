//! The layers, in order. The only file that knows it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    attempt_timeout::{AttemptTimeout, AttemptTimeoutLayer},
    breaker::{Breaker, BreakerConfig, BreakerLayer, CircuitBreaker, Guarded},
    config::{ConfigError, ResilienceConfig},
    deadline::{DeadlineLayer, TimedOut, WithDeadline},
    edge::{BoxError, Edge, EdgeBody, EdgeLayer},
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer, Slot},
    metrics::{
        self, Attempt, AttemptMetrics, AttemptMetricsLayer, Call, CallMetrics, CallMetricsLayer,
    },
    retry::{Retry, RetryBody, RetryLayer},
    timer::TimedBody,
    watch::WatchedBody,
};

/// The whole of it: wrap a channel once, and every call of a generated client
/// gets a deadline that is true, retries that cannot become a storm, a
/// concurrency limit and a circuit breaker.
///
/// One layer stands for one upstream. Its clones, and all services that it
/// makes, share one budget, one limit and one breaker.
#[derive(Debug, Clone)]
pub struct ResilienceLayer {
    call_metrics: CallMetricsLayer,
    deadline: DeadlineLayer,
    retry: RetryLayer,
    limit: ConcurrencyLimitLayer,
    breaker: BreakerLayer,
    attempt_metrics: AttemptMetricsLayer,
    attempt_timeout: AttemptTimeoutLayer,
}

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
        config.validate()?;
        metrics::describe();
        let ResilienceConfig {
            deadline,
            attempt_timeout,
            methods,
            idempotent,
            retry,
            budget,
            limit,
            breaker,
        } = config;
        Ok(Self {
            call_metrics: CallMetricsLayer::new(upstream, &methods),
            deadline: DeadlineLayer::new(upstream, deadline)?,
            retry: RetryLayer::new(upstream, retry, budget, idempotent, &methods)?,
            limit: ConcurrencyLimitLayer::new(upstream, limit)?,
            breaker: BreakerLayer::new(upstream, patient(breaker, deadline))?,
            attempt_metrics: AttemptMetricsLayer::new(upstream, &methods),
            attempt_timeout: AttemptTimeoutLayer::new(attempt_timeout)?,
        })
    }

    /// The circuit breaker of this upstream: to look at, and to force.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        self.breaker.breaker()
    }

    /// Retries that the budget allows at this moment.
    #[must_use]
    pub fn budget_tokens(&self) -> f64 {
        self.retry.budget_tokens()
    }

    /// Attempts in flight at this moment.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limit.in_flight()
    }

    /// Attempts waiting for a slot at this moment.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.limit.queued()
    }

    /// Brings the gauges up to date: budget, limit, failure ratio, time in
    /// state. To be called before each scrape, or every second or so.
    pub fn refresh_metrics(&self) {
        self.retry.refresh_metrics();
        self.limit.refresh_metrics();
        self.breaker.breaker().refresh_metrics();
    }
}

/// A probe may take as long as a call: one that is still under way must not be
/// taken for lost, or a slow upstream would never be let back in.
fn patient(breaker: BreakerConfig, deadline: Duration) -> BreakerConfig {
    BreakerConfig {
        probe_timeout: breaker.probe_timeout.max(deadline),
        ..breaker
    }
}

/// The order, outermost first.
type Stack<S> = CallMetrics<
    WithDeadline<Retry<ConcurrencyLimit<CircuitBreaker<AttemptMetrics<AttemptTimeout<Edge<S>>>>>>>,
>;

impl<S> Layer<S> for ResilienceLayer {
    type Service = Resilience<S>;

    /// Read from the bottom: each line wraps what stands above it.
    fn layer(&self, channel: S) -> Resilience<S> {
        // One vocabulary of errors for everything above.
        let stack = EdgeLayer.layer(channel);
        // Inside the breaker, so that an upstream that hangs trips it.
        let stack = self.attempt_timeout.layer(stack);
        // Inside everything that refuses: a refusal is not an attempt.
        let stack = self.attempt_metrics.layer(stack);
        // Asked by each attempt, retries included: each says something about
        // the upstream, and an open circuit stops the retries of calls that
        // are under way.
        let stack = self.breaker.layer(stack);
        // A slot per attempt, and none held between attempts. Outside the
        // breaker, so that an attempt asks it when it can really be sent.
        let stack = self.limit.layer(stack);
        // Inside the deadline, so that no wait outlives the call.
        let stack = self.retry.layer(stack);
        // Everything below waits inside it.
        let stack = self.deadline.layer(stack);
        // Sees what the caller sees, whatever happens inside.
        let stack = self.call_metrics.layer(stack);
        Resilience { stack }
    }
}

/// A channel with the whole stack around it, for generated clients.
///
/// # Errors
/// Always a [`Status`]: from the upstream; from the transport, with
/// [`TransportError`](crate::TransportError) among its sources; from a timer
/// here, with [`TimedOut`](crate::TimedOut); or a refusal, with
/// [`Rejection`](crate::Rejection).
///
/// # Cancellation
/// Dropping a call, or its response, resets the stream and gives back slot and
/// probe; it counts for nothing.
#[derive(Debug, Clone)]
pub struct Resilience<S> {
    stack: Stack<S>,
}

impl<S, B> Service<Request<Body>> for Resilience<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = ResponseFuture<S>;

    /// Always ready, and never an error: see [`Edge`].
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.stack.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture<S> {
        ResponseFuture {
            inner: self.stack.call(request),
        }
    }
}

pin_project! {
    /// The future of a call through [`Resilience`].
    pub struct ResponseFuture<S>
    where
        S: Service<Request<Body>>,
        Stack<S>: Service<Request<Body>>,
    {
        #[pin]
        inner: <Stack<S> as Service<Request<Body>>>::Future,
    }
}

impl<S, B> Future for ResponseFuture<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().inner.poll(cx))?;
        Poll::Ready(Ok(response.map(|inner| ResponseBody { inner })))
    }
}

impl<S> fmt::Debug for ResponseFuture<S>
where
    S: Service<Request<Body>>,
    Stack<S>: Service<Request<Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// The body of each layer, in the order of the stack.
type StackBody = WatchedBody<
    TimedBody<
        RetryBody<
            WatchedBody<
                WatchedBody<WatchedBody<TimedBody<EdgeBody, TimedOut>, Attempt>, Guarded>,
                Slot,
            >,
        >,
        TimedOut,
    >,
    Call,
>;

/// The response body of a call through [`Resilience`]; the attempt, and the
/// call, are over when it is.
#[derive(Debug, Default)]
pub struct ResponseBody {
    inner: StackBody,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
