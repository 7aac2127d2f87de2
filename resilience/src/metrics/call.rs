//! One row per call, whatever happens inside.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use super::{CallHandles, MethodTable, calls};
use crate::{
    classify,
    method::{MethodName, MethodSet},
    rejection::Rejection,
    retry::{Attempts, RetryStopped},
    watch::{End, Watch, WatchedBody, WatchedFuture},
};

/// Measures calls: duration by status, and outcome.
///
/// Outermost, so that it sees what the caller sees. A call is over when its
/// response body is: at the trailers, an error, or when it is dropped.
#[derive(Debug, Clone)]
pub struct CallMetricsLayer {
    table: Arc<MethodTable<CallHandles>>,
}

impl CallMetricsLayer {
    /// For calls to `upstream`; `methods` exist from the start, at zero.
    #[must_use]
    pub fn new(upstream: &str, methods: &MethodSet) -> Self {
        Self {
            table: Arc::new(calls(upstream, methods)),
        }
    }
}

impl<S> Layer<S> for CallMetricsLayer {
    type Service = CallMetrics<S>;

    fn layer(&self, inner: S) -> CallMetrics<S> {
        CallMetrics {
            inner,
            table: Arc::clone(&self.table),
        }
    }
}

/// Measures calls.
#[derive(Debug, Clone)]
pub struct CallMetrics<S> {
    inner: S,
    table: Arc<MethodTable<CallHandles>>,
}

impl<S, R, B> Service<Request<R>> for CallMetrics<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Status>,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Response = Response<WatchedBody<B, Call>>;
    type Error = Status;
    type Future = WatchedFuture<S::Future, Call>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let call = Call {
            started: Instant::now(),
            handles: self.table.get(MethodName::generated(request.extensions())),
            retried: false,
        };
        WatchedFuture::new(self.inner.call(request), call)
    }
}

/// One call under way.
#[derive(Debug)]
pub struct Call {
    started: Instant,
    handles: Arc<CallHandles>,
    retried: bool,
}

impl Watch for Call {
    fn head(&mut self, extensions: &Extensions) {
        self.retried = Attempts::of(extensions).retries > 0;
    }

    fn ended(self, end: End<'_>) {
        let handles = &self.handles;
        let ok = if self.retried {
            &handles.ok_after_retry
        } else {
            &handles.ok
        };
        let (code, outcome) = match end {
            End::Ok => (Code::Ok, ok),
            End::Dropped => (Code::Cancelled, &handles.cancelled),
            End::Failed(status) if Rejection::of(status).is_some() => {
                (status.code(), &handles.rejected)
            }
            End::Failed(status) if classify::is_answer(status) => {
                let retried = RetryStopped::of(status).is_some_and(|why| why.retries() > 0);
                let ok = if retried { &handles.ok_after_retry } else { ok };
                (status.code(), ok)
            }
            End::Failed(status) => (status.code(), &handles.failed),
        };
        handles.duration.get(code).record(self.started.elapsed());
        outcome.increment(1);
    }
}
