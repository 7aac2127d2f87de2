//! One row, and one span, per call that is served, by method and status.
//!
//! A call is over when its response body is over: at the trailers, at an error,
//! or when it is dropped because the caller went away (CANCELLED). The status is
//! read where gRPC puts it: in the trailers, or in the head of a response that
//! has no body.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;
use tower::{Layer, Service};

use super::rows::{Call, NotBegun, Rows};

/// Measures the calls of a server, all but health checks and reflection.
#[derive(Debug, Clone)]
pub(crate) struct CallMetricsLayer {
    rows: Arc<Rows>,
}

impl CallMetricsLayer {
    /// Registers `methods` (`package.Service/Method`), at zero.
    pub(crate) fn new(methods: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            rows: Arc::new(Rows::new(methods)),
        }
    }
}

impl<S> Layer<S> for CallMetricsLayer {
    type Service = CallMetrics<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallMetrics {
            rows: Arc::clone(&self.rows),
            inner,
        }
    }
}

/// The status in headers or trailers, where there is one.
fn status(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// The service of [`CallMetricsLayer`].
#[derive(Debug, Clone)]
pub(crate) struct CallMetrics<S> {
    rows: Arc<Rows>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for CallMetrics<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<MeasuredBody<R>>;
    type Error = S::Error;
    type Future = Measured<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = self.rows.start(request.uri().path(), request.headers());
        let inner = match &call {
            Some(call) => call.span().enter(|| self.inner.call(request)),
            None => self.inner.call(request),
        };
        Measured { inner, call }
    }
}

pin_project! {
    /// The future of [`CallMetrics`].
    #[derive(Debug)]
    pub(crate) struct Measured<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, R, E> Future for Measured<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<MeasuredBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.call {
            Some(call) => ready!(call.span().enter(|| this.inner.poll(cx))),
            None => ready!(this.inner.poll(cx)),
        };
        let mut call = this.call.take();
        if let Some(call) = &mut call {
            match &answer {
                Ok(response) => {
                    if let Some(why) = response.extensions().get::<NotBegun>() {
                        call.not_begun(*why);
                    }
                    if let Some(code) = status(response.headers()) {
                        call.end(code);
                    }
                }
                Err(_) => call.end(Code::Unknown),
            }
        }
        Poll::Ready(answer.map(|response| response.map(|inner| MeasuredBody { inner, call })))
    }
}

pin_project! {
    /// The response body of [`CallMetrics`].
    #[derive(Debug)]
    pub(crate) struct MeasuredBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B: Body> Body for MeasuredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(call) = this.call {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        call.end(status(trailers).unwrap_or(Code::Unknown));
                    }
                }
                // An answer without a status is what gRPC calls UNKNOWN.
                Some(Err(_)) | None => call.end(Code::Unknown),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use http::HeaderValue;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tonic::Status;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// What is measured while `calls` run against a layer that knows `a.S/M`.
    fn measured<F: Future<Output = ()>>(calls: impl FnOnce(CallMetricsLayer) -> F) -> String {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&[1.0])
            .unwrap()
            .build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(calls(CallMetricsLayer::new(["a.S/M"])));
        });
        recorder.handle().render()
    }

    fn count(method: &str, status: &str) -> String {
        format!(
            "grpc_server_call_duration_seconds_count{{grpc_method=\"{method}\",grpc_status=\"{status}\"}}"
        )
    }

    fn request(path: &str) -> Request<()> {
        Request::builder().uri(path).body(()).unwrap()
    }

    /// A body that is one message and then, when there are any, trailers.
    fn body(trailers: Option<&'static str>) -> impl Body<Data = bytes::Bytes, Error = Infallible> {
        let message = Frame::data(bytes::Bytes::from_static(b"message"));
        let trailers = trailers.map(|code| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(code));
            Frame::trailers(trailers)
        });
        let frames = std::iter::once(message).chain(trailers).map(Ok);
        http_body_util::StreamBody::new(futures_util::stream::iter(frames))
    }

    #[test]
    fn a_method_is_there_at_zero_before_its_first_call() {
        let text = measured(async |_| {});

        assert!(text.contains("grpc_server_call_started_total{grpc_method=\"a.S/M\"} 0\n"));
        assert!(text.contains("grpc_server_call_started_total{grpc_method=\"other\"} 0\n"));
        for status in ["OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"] {
            assert!(
                text.contains(&(count("a.S/M", status) + " 0\n")),
                "{status}: {text}"
            );
        }
        assert!(!text.contains("NOT_FOUND"), "{text}");
    }

    #[test]
    fn a_call_ends_with_its_body_and_its_status_is_in_the_trailers() {
        let text = measured(async |layer| {
            let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(body(Some("5")))));
            let response = layer
                .layer(service)
                .oneshot(request("/a.S/M"))
                .await
                .unwrap();
            tokio::time::advance(std::time::Duration::from_secs(3)).await;
            http_body_util::BodyExt::collect(response.into_body())
                .await
                .unwrap();
        });

        assert!(
            text.contains(&(count("a.S/M", "NOT_FOUND") + " 1\n")),
            "{text}"
        );
        assert!(text.contains("_sum{grpc_method=\"a.S/M\",grpc_status=\"NOT_FOUND\"} 3\n"));
    }

    #[test]
    fn a_status_in_the_head_of_a_response_counts() {
        let text = measured(async |layer| {
            let service = service_fn(async |_| {
                Ok::<_, Infallible>(Status::unavailable("no").into_http::<tonic::body::Body>())
            });
            layer
                .layer(service)
                .oneshot(request("/a.S/M"))
                .await
                .unwrap();
        });

        assert!(
            text.contains(&(count("a.S/M", "UNAVAILABLE") + " 1\n")),
            "{text}"
        );
    }

    #[test]
    fn a_call_that_was_turned_away_is_counted_by_the_reason() {
        let not_begun = |reason| {
            format!(
                "grpc_server_calls_not_begun_total{{grpc_method=\"a.S/M\",reason=\"{reason}\"}}"
            )
        };
        let text = measured(async |layer| {
            let service = service_fn(async |_| {
                let status = Status::resource_exhausted("no");
                let mut response = status.into_http::<tonic::body::Body>();
                response.extensions_mut().insert(NotBegun::Overload);
                Ok::<_, Infallible>(response)
            });
            let call = layer.layer(service).oneshot(request("/a.S/M"));
            call.await.unwrap();
        });

        assert!(text.contains(&(not_begun("overload") + " 1\n")), "{text}");
        assert!(text.contains(&(not_begun("too_late") + " 0\n")), "{text}");
        assert!(
            text.contains(&(count("a.S/M", "RESOURCE_EXHAUSTED") + " 1\n")),
            "{text}"
        );
    }

    #[test]
    fn a_call_whose_caller_went_away_is_cancelled() {
        let text = measured(async |layer| {
            let hangs =
                service_fn(|_| pending::<Result<Response<tonic::body::Body>, Infallible>>());
            let call = layer.clone().layer(hangs).oneshot(request("/a.S/M"));
            tokio::time::timeout(std::time::Duration::from_secs(1), call)
                .await
                .unwrap_err();

            let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(body(Some("0")))));
            drop(
                layer
                    .layer(service)
                    .oneshot(request("/a.S/M"))
                    .await
                    .unwrap(),
            );
        });

        assert!(
            text.contains(&(count("a.S/M", "CANCELLED") + " 2\n")),
            "{text}"
        );
        assert!(text.contains(&(count("a.S/M", "OK") + " 0\n")), "{text}");
    }

    #[test]
    fn a_body_without_a_status_is_unknown() {
        let text = measured(async |layer| {
            let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(body(None))));
            let response = layer
                .layer(service)
                .oneshot(request("/a.S/M"))
                .await
                .unwrap();
            http_body_util::BodyExt::collect(response.into_body())
                .await
                .unwrap();
        });

        assert!(
            text.contains(&(count("a.S/M", "UNKNOWN") + " 1\n")),
            "{text}"
        );
    }

    #[test]
    fn strangers_share_one_row_and_plumbing_has_none() {
        let text = measured(async |layer| {
            let service = service_fn(async |_| {
                Ok::<_, Infallible>(Status::unimplemented("").into_http::<tonic::body::Body>())
            });
            for path in ["/b.S/M", "/a.S/X", "/", "/grpc.health.v1.Health/Check"] {
                layer
                    .clone()
                    .layer(service)
                    .oneshot(request(path))
                    .await
                    .unwrap();
            }
        });

        assert!(
            text.contains(&(count("other", "UNIMPLEMENTED") + " 3\n")),
            "{text}"
        );
        assert!(!text.contains("health"), "{text}");
    }
}
