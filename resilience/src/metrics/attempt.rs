//! One row per attempt that is really sent.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use super::{AttemptHandles, MethodTable, attempts};
use crate::{
    method::{MethodName, MethodSet},
    watch::{End, Watch, WatchedBody, WatchedFuture},
};

/// Measures attempts: how many were sent, and duration by status.
///
/// Inside everything that may refuse one: a refusal is not an attempt.
#[derive(Debug, Clone)]
pub struct AttemptMetricsLayer {
    table: Arc<MethodTable<AttemptHandles>>,
}

impl AttemptMetricsLayer {
    /// For attempts at `upstream`; `methods` exist from the start, at zero.
    #[must_use]
    pub fn new(upstream: &str, methods: &MethodSet) -> Self {
        Self {
            table: Arc::new(attempts(upstream, methods)),
        }
    }
}

impl<S> Layer<S> for AttemptMetricsLayer {
    type Service = AttemptMetrics<S>;

    fn layer(&self, inner: S) -> AttemptMetrics<S> {
        AttemptMetrics {
            inner,
            table: Arc::clone(&self.table),
        }
    }
}

/// Measures attempts.
#[derive(Debug, Clone)]
pub struct AttemptMetrics<S> {
    inner: S,
    table: Arc<MethodTable<AttemptHandles>>,
}

impl<S, R, B> Service<Request<R>> for AttemptMetrics<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Status>,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Response = Response<WatchedBody<B, Attempt>>;
    type Error = Status;
    type Future = WatchedFuture<S::Future, Attempt>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let handles = self.table.get(MethodName::generated(request.extensions()));
        handles.started.increment(1);
        let attempt = Attempt {
            started: Instant::now(),
            handles,
        };
        WatchedFuture::new(self.inner.call(request), attempt)
    }
}

/// One attempt under way.
#[derive(Debug)]
pub struct Attempt {
    started: Instant,
    handles: Arc<AttemptHandles>,
}

impl Watch for Attempt {
    fn ended(self, end: End<'_>) {
        let code = match end {
            End::Ok => Code::Ok,
            End::Failed(status) => status.code(),
            End::Dropped => Code::Cancelled,
        };
        self.handles
            .duration
            .get(code)
            .record(self.started.elapsed());
    }
}
