//! The service that asks a policy.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::{Status, body::Body};
use tower_service::Service;

use super::{GuardedExchange, OneTimer, Policy};
use crate::{
    context::Context,
    exchange::{ExchangeBody, ExchangeFuture, Sent},
};

/// A service that is asked for through a policy.
///
/// It is always ready, and never an error: a generated client awaits readiness
/// *before* the call, outside every timeout, and reports an error from there as
/// UNKNOWN with its source lost. What lies below is asked within the call.
#[derive(Debug)]
pub struct Guarded<S, P> {
    inner: S,
    policy: Arc<P>,
}

impl<S, P> Guarded<S, P> {
    pub(crate) fn new(inner: S, policy: &Arc<P>) -> Self {
        Self {
            inner,
            policy: Arc::clone(policy),
        }
    }
}

impl<S: Clone, P> Clone for Guarded<S, P> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), &self.policy)
    }
}

impl<S, P, B> Service<Request<Body>> for Guarded<S, P>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Status> + Clone,
    P: Policy,
    B: HttpBody<Data = Bytes, Error = Status>,
{
    type Response = Response<ExchangeBody<GuardedExchange<Sent<S, S::Future, B>, P, OneTimer>>>;
    type Error = Status;
    type Future = ExchangeFuture<GuardedExchange<Sent<S, S::Future, B>, P, OneTimer>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let context = Context::of_layer(&request);
        let sent = Sent::new(self.inner.clone());
        let exchange = GuardedExchange::new(sent, &self.policy, context);
        ExchangeFuture::start(exchange, request, context)
    }
}
