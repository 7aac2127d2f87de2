//! One vocabulary of errors: whatever tonic, hyper and h2 say becomes a
//! [`Status`].
//!
//! Above this layer an attempt ends in one of three ways, and every other layer
//! relies on it:
//!
//! - a body whose trailers say OK (or a head that says so, without a body),
//! - a [`Status`], as the error of the future or of the body, whether the
//!   upstream sent it (in the head or in trailers) or the transport failed,
//! - it is dropped.
//!
//! A status that comes from the transport carries a [`TransportError`], which
//! says whether the upstream can have seen the attempt.
//!
//! | file | what |
//! | --- | --- |
//! | `normalise.rs` | errors of tonic, hyper and h2 → status |
//! | `response.rs` | head and trailers → status |

mod normalise;
mod response;

use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

pub use self::response::EdgeBody;
use self::{
    normalise::{Phase, normalise, not_ready},
    response::open,
};
use crate::cause;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Wraps a channel in an [`Edge`].
#[derive(Debug, Clone, Copy, Default)]
pub struct EdgeLayer;

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, channel: S) -> Edge<S> {
        Edge { channel }
    }
}

/// Turns everything that a channel can say into a [`Status`].
///
/// It is always ready. A channel's own readiness (a place in its buffer) is
/// awaited inside the call, where the deadline and the attempt timeout cover
/// it, and an error of it becomes a status like any other; a generated client
/// would report it as UNKNOWN, with the cause lost.
#[derive(Debug, Clone)]
pub struct Edge<S> {
    channel: S,
}

impl<S, B> Service<Request<Body>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<EdgeBody>;
    type Error = Status;
    type Future = EdgeFuture<S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> EdgeFuture<S> {
        // Most channels are ready most of the time. One that is not is asked
        // again by the future, which has a waker.
        let state = match self
            .channel
            .poll_ready(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Ok(())) => State::Sent {
                future: self.channel.call(request),
            },
            Poll::Ready(Err(error)) => State::Refused {
                status: Some(not_ready(error.into())),
            },
            Poll::Pending => {
                // It goes on waiting where it is; a copy stays.
                let copy = self.channel.clone();
                let channel = mem::replace(&mut self.channel, copy);
                State::Waiting {
                    waiting: Some(Box::new((channel, request))),
                }
            }
        };
        EdgeFuture { state }
    }
}

pin_project! {
    /// The future of an [`Edge`].
    pub struct EdgeFuture<S>
    where
        S: Service<Request<Body>>,
    {
        #[pin]
        state: State<S>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S>
    where
        S: Service<Request<Body>>,
    {
        // For the channel to take the request. Boxed, as hardly any does.
        Waiting { waiting: Option<Box<(S, Request<Body>)>> },
        // For the response head.
        Sent { #[pin] future: S::Future },
        Refused { status: Option<Status> },
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for EdgeFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeFuture").finish_non_exhaustive()
    }
}

impl<S, B> Future for EdgeFuture<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<EdgeBody>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Sent { future } => {
                    return Poll::Ready(match ready!(future.poll(cx)) {
                        Ok(response) => open(response.map(Body::new)),
                        Err(error) => Err(normalise(error.into(), Phase::Head)),
                    });
                }
                StateProj::Waiting { waiting } => {
                    let Some((channel, _)) = waiting.as_deref_mut() else {
                        return Poll::Pending;
                    };
                    let ready = ready!(channel.poll_ready(cx));
                    let Some(waiting) = waiting.take() else {
                        return Poll::Pending;
                    };
                    let (mut channel, request) = *waiting;
                    state.set(match ready {
                        Ok(()) => State::Sent {
                            future: channel.call(request),
                        },
                        Err(error) => State::Refused {
                            status: Some(not_ready(error.into())),
                        },
                    });
                }
                StateProj::Refused { status } => {
                    return match status.take() {
                        Some(status) => Poll::Ready(Err(status)),
                        // Polled after it was done: there is nothing more to come.
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

/// What the transport knows of an attempt that it could not bring to an end;
/// the source of the attempt's [`Status`].
#[derive(Debug)]
pub struct TransportError {
    delivery: Delivery,
    source: BoxError,
}

/// Whether the upstream can have acted on an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// It never left: no connection, or the connection closed before, or the
    /// request could not be made.
    NotSent,
    /// The upstream says that it has not looked at it (REFUSED_STREAM, or a
    /// GOAWAY below the stream).
    NotProcessed,
    /// It may have been acted on.
    Unknown,
}

impl TransportError {
    /// For a transport of one's own, and for tests of a
    /// [`Classify`](crate::Classify): to be made the source of a status
    /// (`Status::set_source`).
    #[must_use]
    pub fn new(
        delivery: Delivery,
        source: impl Into<Box<dyn Error + Send + Sync + 'static>>,
    ) -> Self {
        Self {
            delivery,
            source: source.into(),
        }
    }

    /// `status`, of a request that could not be made: it was not sent.
    pub(crate) fn not_sent(status: Status) -> Status {
        let mut with_cause = status.clone();
        with_cause.set_source(Arc::new(Self::new(Delivery::NotSent, status)));
        with_cause
    }

    #[cfg(test)]
    pub(crate) fn for_test(delivery: Delivery) -> Self {
        Self::new(delivery, "in a test")
    }

    /// The transport error behind `status`, or `None` when the upstream
    /// answered, or the attempt was ended or refused here.
    #[must_use]
    pub fn of(status: &Status) -> Option<&Self> {
        cause::find(status)
    }

    /// Whether the upstream can have acted on the attempt.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.delivery {
            Delivery::NotSent => "not sent",
            Delivery::NotProcessed => "not processed by the upstream",
            Delivery::Unknown => "the connection failed during the attempt",
        })
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
