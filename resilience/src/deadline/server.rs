//! The server's half: the deadline of an inbound call.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use super::{Deadline, wire};

/// For servers: keeps the deadline of each inbound call, and tells the handler.
///
/// The handler finds it as [`Deadline`] among the extensions of its request,
/// and can pass it on. When it has passed, the call ends with
/// DEADLINE_EXCEEDED, as gRPC says; tonic's own server says CANCELLED. As in
/// tonic, the handler is dropped then, and the end of a response *stream* is
/// not awaited: the deadline holds for the head.
///
/// ```
/// # fn serve() {
/// let server = tonic::transport::Server::builder()
///     .layer(resilience::InboundDeadlineLayer);
/// # let _ = server;
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct InboundDeadlineLayer;

impl<S> Layer<S> for InboundDeadlineLayer {
    type Service = InboundDeadline<S>;

    fn layer(&self, inner: S) -> InboundDeadline<S> {
        InboundDeadline { inner }
    }
}

/// Keeps the deadline of each inbound call: see [`InboundDeadlineLayer`].
///
/// A call without `grpc-timeout` has none; a malformed one is passed over, as
/// tonic does.
#[derive(Debug, Clone)]
pub struct InboundDeadline<S> {
    inner: S,
}

impl<S, R, B> Service<Request<R>> for InboundDeadline<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = InboundDeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        // A timeout that no clock can hold is no deadline.
        let deadline = wire::read(request.headers())
            .and_then(|timeout| Instant::now().checked_add(timeout))
            .map(Deadline);
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        InboundDeadlineFuture {
            inner: self.inner.call(request),
            // Older than tonic's own timer, and so never later.
            expired: deadline.map(|deadline| sleep_until(deadline.0)),
        }
    }
}

pin_project! {
    /// The future of [`InboundDeadline`].
    #[derive(Debug)]
    pub struct InboundDeadlineFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        expired: Option<Sleep>,
    }
}

impl<F, B, E> Future for InboundDeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending, time::Duration};

    use tonic::Code;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    fn request(timeout: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(timeout) = timeout {
            request
                .headers_mut()
                .insert("grpc-timeout", timeout.parse().unwrap());
        }
        request
    }

    /// The time left that a handler is told.
    async fn told(timeout: Option<&str>) -> Option<Duration> {
        let handler = service_fn(|request: Request<()>| async move {
            let deadline = Deadline::of(request.extensions());
            let left = deadline.map(|deadline| deadline.remaining(Instant::now()));
            Ok::<_, Infallible>(Response::new(left))
        });
        InboundDeadlineLayer
            .layer(handler)
            .oneshot(request(timeout))
            .await
            .unwrap()
            .into_body()
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_is_told_how_long_its_caller_waits() {
        assert_eq!(told(Some("300m")).await, Some(Duration::from_millis(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_readable_timeout_there_is_no_deadline() {
        assert_eq!(told(None).await, None);
        assert_eq!(told(Some("soon")).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_answered_for_at_the_deadline() {
        let hangs = service_fn(|_: Request<()>| pending::<Result<Response<()>, Infallible>>());
        let started = Instant::now();

        let response = InboundDeadlineLayer
            .layer(hangs)
            .oneshot(request(Some("300m")))
            .await
            .unwrap();

        assert_eq!(started.elapsed(), Duration::from_millis(300));
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
}
