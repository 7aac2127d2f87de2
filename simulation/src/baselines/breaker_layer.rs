//! A breaker of another library as a layer, to stand where ours would.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body, metadata::MetadataMap};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    breaker::{Machine, Permit, Rules},
    budgets::lock,
};

/// The message of its refusals.
const REFUSED: &str = "another library's circuit is open";

/// Whether `status` is a refusal of such a circuit.
#[must_use]
pub fn is_refusal(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message() == REFUSED
}

/// A circuit, shared by all services that it makes.
#[derive(Debug, Clone)]
pub struct Circuit {
    machine: Arc<Mutex<Machine>>,
    began: Instant,
}

impl Circuit {
    /// A closed one.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            machine: Arc::new(Mutex::new(Machine::new(rules))),
            began: Instant::now(),
        }
    }

    /// Whether it lets everything pass.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.machine).is_closed()
    }

    /// Asks to send an attempt.
    fn acquire(&self) -> Option<Attempt> {
        let permit = lock(&self.machine).acquire(self.began.elapsed())?;
        Some(Attempt {
            circuit: self.clone(),
            permit: Some(permit),
        })
    }
}

impl<S> Layer<S> for Circuit {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            circuit: self.clone(),
        }
    }
}

/// An attempt under way; dropped before it is over, it counts for nothing.
struct Attempt {
    circuit: Circuit,
    permit: Option<Permit>,
}

impl Attempt {
    fn over(mut self, succeeded: bool) {
        self.settle(Some(succeeded));
    }

    fn settle(&mut self, succeeded: Option<bool>) {
        if let Some(permit) = self.permit.take() {
            let now = self.circuit.began.elapsed();
            lock(&self.circuit.machine).settle(permit, succeeded, now);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.settle(None);
    }
}

/// A service behind a circuit.
///
/// Every error counts as a failure, as it does in those libraries unless they are told more. A
/// refusal asks not to be retried: none of them retries what its own circuit refused.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    circuit: Circuit,
}

impl<S, B> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Status>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(attempt) = self.circuit.acquire() else {
            tracing::debug!(rejection = REFUSED, "refused");
            return Box::pin(async { Err(refusal()) });
        };
        let response = self.inner.call(request);
        Box::pin(async move {
            // The model's answers are complete when their head is there.
            let response = response.await;
            attempt.over(response.is_ok());
            response
        })
    }
}

fn refusal() -> Status {
    let mut metadata = MetadataMap::new();
    let never = tonic::metadata::MetadataValue::from_static("-1");
    metadata.insert("grpc-retry-pushback-ms", never);
    Status::with_metadata(Code::Unavailable, REFUSED, metadata)
}
