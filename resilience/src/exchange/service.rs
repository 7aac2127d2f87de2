//! Any exchange, as the future and the body of a tower service.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{Exchange, Turn};
use crate::context::Context;

/// The future of a call through one of our layers, or through all of them.
pub struct ExchangeFuture<X> {
    /// `None` once it is in the body.
    exchange: Option<Pin<Box<X>>>,
}

impl<X: Exchange> ExchangeFuture<X> {
    /// Starts `exchange`.
    #[inline]
    pub(crate) fn start(exchange: X, request: Request<Body>, context: Context) -> Self {
        let mut exchange = Box::pin(exchange);
        exchange.as_mut().start(request, context);
        Self {
            exchange: Some(exchange),
        }
    }
}

impl<X: Exchange> Future for ExchangeFuture<X> {
    type Output = Result<Response<ExchangeBody<X>>, Status>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some(exchange) = &mut self.exchange else {
            // Polled after it was done: there is nothing more to come.
            return Poll::Pending;
        };
        let head = ready!(exchange.as_mut().poll_head(&mut Turn::new(cx)));
        let exchange = self.exchange.take();
        Poll::Ready(head.map(|head| Response::from_parts(head, ExchangeBody { exchange })))
    }
}

impl<X> fmt::Debug for ExchangeFuture<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeFuture").finish_non_exhaustive()
    }
}

/// The response body of a call through one of our layers, or through all of
/// them; what the layers hold is held until it is over. The default is one that
/// is over.
pub struct ExchangeBody<X> {
    exchange: Option<Pin<Box<X>>>,
}

impl<X> Default for ExchangeBody<X> {
    fn default() -> Self {
        Self { exchange: None }
    }
}

impl<X: Exchange> HttpBody for ExchangeBody<X> {
    type Data = Bytes;
    type Error = Status;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut self.exchange {
            Some(exchange) => exchange.as_mut().poll_frame(&mut Turn::new(cx)),
            None => Poll::Ready(None),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.exchange
            .as_ref()
            .is_none_or(|exchange| exchange.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.exchange
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |exchange| exchange.size_hint())
    }
}

impl<X> fmt::Debug for ExchangeBody<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeBody").finish_non_exhaustive()
    }
}
