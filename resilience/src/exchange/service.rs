//! Any exchange, as the future and the body of a tower service.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{Exchange, Turn, pool::Pool};
use crate::context::Context;

/// The future of a call through one of our layers, or through all of them.
pub struct ExchangeFuture<X> {
    /// `None` once it is in the body.
    exchange: Option<Started<X>>,
}

/// An exchange that is under way.
struct Started<X> {
    exchange: Pin<Box<X>>,
    /// Where it goes when it is over.
    pool: Option<Arc<Pool<X>>>,
}

impl<X: Exchange> Started<X> {
    /// It has come to its end. What was dropped before, or has failed, is not
    /// used again: there is no need to know what state it is in.
    #[inline]
    fn over(mut self) {
        if let Some(pool) = self.pool {
            self.exchange.as_mut().stop();
            pool.put(self.exchange);
        }
    }
}

impl<X: Exchange> ExchangeFuture<X> {
    /// Starts `exchange`.
    #[inline]
    pub(crate) fn start(exchange: X, request: Request<Body>, context: Context) -> Self {
        Self::started(Box::pin(exchange), None, request, context)
    }

    /// Starts an exchange of `pool`, or one that is made now.
    #[inline]
    pub(crate) fn start_again(
        pool: &Arc<Pool<X>>,
        make: impl FnOnce() -> X,
        request: Request<Body>,
        context: Context,
    ) -> Self {
        let exchange = pool.take().unwrap_or_else(|| Box::pin(make()));
        Self::started(exchange, Some(Arc::clone(pool)), request, context)
    }

    #[inline]
    fn started(
        mut exchange: Pin<Box<X>>,
        pool: Option<Arc<Pool<X>>>,
        request: Request<Body>,
        context: Context,
    ) -> Self {
        exchange.as_mut().start(request, context);
        Self {
            exchange: Some(Started { exchange, pool }),
        }
    }
}

impl<X: Exchange> Future for ExchangeFuture<X> {
    type Output = Result<Response<ExchangeBody<X>>, Status>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some(Started { exchange, .. }) = &mut self.exchange else {
            // Polled after it was done: there is nothing more to come.
            return Poll::Pending;
        };
        let head = ready!(exchange.as_mut().poll_head(&mut Turn::new(cx)));
        let mut exchange = self.exchange.take();
        Poll::Ready(head.map(|head| {
            let over = |started: &mut Started<X>| started.exchange.is_end_stream();
            if let Some(started) = exchange.take_if(over) {
                started.over();
            }
            Response::from_parts(head, ExchangeBody { exchange })
        }))
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
    /// `None` when it is over.
    exchange: Option<Started<X>>,
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
        let Some(Started { exchange, .. }) = &mut self.exchange else {
            return Poll::Ready(None);
        };
        let frame = ready!(exchange.as_mut().poll_frame(&mut Turn::new(cx)));
        match &frame {
            Some(Ok(frame)) if !frame.is_trailers() => {}
            Some(Err(_)) => self.exchange = None,
            Some(Ok(_)) | None => {
                if let Some(started) = self.exchange.take() {
                    started.over();
                }
            }
        }
        Poll::Ready(frame)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.exchange
            .as_ref()
            .is_none_or(|started| started.exchange.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.exchange.as_ref().map_or_else(
            || SizeHint::with_exact(0),
            |started| started.exchange.size_hint(),
        )
    }
}

impl<X> fmt::Debug for ExchangeBody<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeBody").finish_non_exhaustive()
    }
}
