//! The server's half: the deadline of an inbound call.

use std::task::{Context, Poll};

use http::Request;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{Deadline, wire};

/// For servers: stamps each inbound call with its [`Deadline`], so that a
/// handler can pass it on.
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

/// Stamps each inbound call with its [`Deadline`]; a call without
/// `grpc-timeout` has none.
#[derive(Debug, Clone)]
pub struct InboundDeadline<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for InboundDeadline<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        // A timeout that no clock can hold is no deadline.
        let deadline = wire::read(request.headers())
            .and_then(|timeout| Instant::now().checked_add(timeout))
            .map(Deadline);
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use tower::{ServiceExt as _, service_fn};

    use super::*;

    async fn stamped(timeout: Option<&str>) -> Option<Deadline> {
        let mut request = Request::new(());
        if let Some(timeout) = timeout {
            request
                .headers_mut()
                .insert("grpc-timeout", timeout.parse().unwrap());
        }
        let handler = service_fn(|request: Request<()>| async move {
            Ok::<_, Infallible>(Deadline::of(request.extensions()))
        });
        InboundDeadlineLayer
            .layer(handler)
            .oneshot(request)
            .await
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_counts_from_arrival() {
        let deadline = stamped(Some("300m")).await.unwrap();
        assert_eq!(
            deadline.remaining(Instant::now()),
            Duration::from_millis(300)
        );
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(
            deadline.remaining(Instant::now()),
            Duration::from_millis(200)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_readable_timeout_there_is_no_deadline() {
        assert_eq!(stamped(None).await, None);
        assert_eq!(stamped(Some("soon")).await, None);
    }
}
