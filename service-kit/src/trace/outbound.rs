//! Tells the next service which span its call belongs to.

use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use opentelemetry::propagation::{Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::Service;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::exports;

/// Puts a `traceparent` into every request: the span that the request is made
/// in, which beneath a retry is the attempt's.
///
/// Goes around the channel, beneath everything that makes spans. Does nothing
/// when spans are not exported.
#[derive(Debug, Clone)]
pub struct Traced<S>(S);

/// The future of [`Traced`]: that of the service inside.
pub type TracedFuture<S, B> = <S as Service<Request<B>>>::Future;

impl<S> Traced<S> {
    /// Traces the requests to `inner`.
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, B> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TracedFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if exports() {
            let context = Span::current().context();
            let mut headers = Headers(request.headers_mut());
            TraceContextPropagator::new().inject_context(&context, &mut headers);
        }
        self.0.call(request)
    }
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::from_str(&value))
        else {
            return;
        };
        self.0.insert(name, value);
    }
}
