//! The caller's deadline, kept here and handed to the handlers.
//!
//! tonic's server ends a call when its `grpc-timeout` runs out, but it answers
//! CANCELLED, where gRPC says DEADLINE_EXCEEDED, and it does not tell the
//! handler how long it has. This layer does both.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tower::{Layer, Service};

/// The moment until which the caller waits for its answer: an extension of
/// every request that came with a `grpc-timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallDeadline(pub Instant);

/// Ends a call at its caller's deadline with DEADLINE_EXCEEDED, and stamps the
/// deadline on the request.
///
/// Its timer starts before tonic's own and is therefore never later: tonic's
/// CANCELLED is not seen. The end of a response *stream* is not awaited, as in
/// tonic: a deadline holds for the head of the response.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = KeepDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        KeepDeadline { inner }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub(crate) struct KeepDeadline<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for KeepDeadline<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = UntilDeadline<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let deadline =
            timeout(request.headers()).and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(CallDeadline(deadline));
        }
        UntilDeadline {
            inner: self.inner.call(request),
            expired: deadline.map(tokio::time::sleep_until),
        }
    }
}

pin_project! {
    /// The future of [`KeepDeadline`].
    #[derive(Debug)]
    pub(crate) struct UntilDeadline<F> {
        #[pin]
        inner: F,
        #[pin]
        expired: Option<Sleep>,
    }
}

impl<F, R, E> Future for UntilDeadline<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.inner.poll(cx) {
            return Poll::Ready(answer);
        }
        match this.expired.as_pin_mut() {
            Some(expired) => {
                ready!(expired.poll(cx));
                let status = Status::deadline_exceeded("the caller's deadline has passed");
                Poll::Ready(Ok(status.into_http()))
            }
            None => Poll::Pending,
        }
    }
}

/// The `grpc-timeout` of a request; `None` when there is none, or one that the
/// gRPC protocol does not allow (ignored, as tonic does).
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (amount, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if amount.len() > 8 || !amount.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = amount.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use http::HeaderValue;
    use tonic::Code;
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn parsed(text: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static(text));
        timeout(&headers)
    }

    #[test]
    fn a_timeout_is_read_as_the_protocol_writes_it() {
        assert_eq!(parsed("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parsed("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(parsed("1H"), Some(Duration::from_secs(3600)));
        for malformed in ["", "m", "1", "123456789m", "+1m", "1x", "-1S", "1 S"] {
            assert_eq!(parsed(malformed), None, "{malformed:?}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_answered_for_at_the_deadline() {
        let hangs = service_fn(|_: Request<()>| pending::<Result<Response<String>, Infallible>>());
        let request = Request::builder()
            .header("grpc-timeout", "300m")
            .body(())
            .unwrap();
        let started = Instant::now();

        let response = DeadlineLayer.layer(hangs).oneshot(request).await.unwrap();

        assert_eq!(started.elapsed().as_millis(), 300);
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_is_told_how_long_its_caller_waits() {
        let reads = service_fn(async |request: Request<()>| {
            let CallDeadline(at) = *request.extensions().get().unwrap();
            Ok::<_, Infallible>(Response::new(format!("{:?}", at - Instant::now())))
        });
        let request = Request::builder()
            .header("grpc-timeout", "2S")
            .body(())
            .unwrap();

        let response = DeadlineLayer.layer(reads).oneshot(request).await.unwrap();

        assert_eq!(response.into_body(), "2s");
    }
}
