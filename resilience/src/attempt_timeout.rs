//! The time that one attempt has.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    config::{ConfigError, positive},
    deadline::{Deadline, Scope, TimedOut, wire},
    timer::{TimedBody, TimedFuture},
};

/// Ends an attempt that takes too long, and tells the upstream how long it has.
///
/// It belongs inside the breaker: an upstream that hangs must count as failing,
/// and it can only when somebody inside the breaker stops waiting.
#[derive(Debug, Clone)]
pub struct AttemptTimeoutLayer {
    timeout: Duration,
    /// What most attempts say; made once.
    header: HeaderValue,
}

impl AttemptTimeoutLayer {
    /// An attempt has `timeout`, or what its call has left if that is less.
    ///
    /// # Errors
    /// When `timeout` is zero, or more than a year.
    pub fn new(timeout: Duration) -> Result<Self, ConfigError> {
        positive("attempt_timeout", timeout)?;
        Ok(Self {
            timeout,
            header: wire::value(timeout),
        })
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeout<S>;

    fn layer(&self, inner: S) -> AttemptTimeout<S> {
        AttemptTimeout {
            inner,
            layer: self.clone(),
        }
    }
}

/// Ends an attempt that takes too long.
///
/// The time runs from here to the last trailer, and includes connecting. The
/// upstream is told by `grpc-timeout`, rewritten for each attempt.
///
/// # Errors
/// [`TimedOut`], with [`Scope::Attempt`], or [`Scope::Call`] when it was the
/// call that had no more time.
#[derive(Debug, Clone)]
pub struct AttemptTimeout<S> {
    inner: S,
    layer: AttemptTimeoutLayer,
}

impl<S, R, B> Service<Request<R>> for AttemptTimeout<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Status>,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Response = Response<TimedBody<B, TimedOut>>;
    type Error = Status;
    type Future = TimedFuture<S::Future, TimedOut>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let now = Instant::now();
        let left = Deadline::of(request.extensions()).map(|deadline| deadline.remaining(now));
        let (after, scope, header) = match left {
            Some(left) if left < self.layer.timeout => (left, Scope::Call, wire::value(left)),
            _ => (
                self.layer.timeout,
                Scope::Attempt,
                self.layer.header.clone(),
            ),
        };
        request.headers_mut().insert(&wire::TIMEOUT_HEADER, header);
        TimedFuture::new(
            self.inner.call(request),
            now + after,
            TimedOut { scope, after },
        )
    }
}
