//! Any service, as an exchange.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Request, Response, response::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};
use tower_service::Service;

use super::{Exchange, Turn};
use crate::context::Context;

pin_project! {
    /// A request that is sent through a service, and the response to it.
    pub struct Sent<S, F, B> {
        #[pin]
        state: State<F, B>,
        service: S,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B> {
        // Not begun, or over.
        Idle,
        // For the service to take the request. Boxed, as hardly any waits.
        Waiting { request: Option<Box<Request<Body>>> },
        // For the response head.
        Sent { #[pin] future: F },
        // It has a head.
        Body { #[pin] body: B },
        Refused { status: Option<Status> },
    }
}

impl<S, F, B> Sent<S, F, B> {
    pub(crate) fn new(service: S) -> Self {
        Self {
            state: State::Idle,
            service,
        }
    }
}

impl<S, F, B> Exchange for Sent<S, F, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Status, Future = F>,
    F: Future<Output = Result<Response<B>, Status>>,
    B: HttpBody<Data = Bytes, Error = Status>,
{
    #[inline]
    fn start(self: Pin<&mut Self>, mut request: Request<Body>, context: Context) {
        let mut this = self.project();
        context.tell(&mut request);
        // Most services are ready most of the time. One that is not is asked
        // again when there is a waker.
        let mut cx = TaskContext::from_waker(Waker::noop());
        let state = match this.service.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => State::Sent {
                future: this.service.call(request),
            },
            Poll::Ready(Err(status)) => State::Refused {
                status: Some(status),
            },
            Poll::Pending => State::Waiting {
                request: Some(Box::new(request)),
            },
        };
        this.state.set(state);
    }

    #[inline]
    fn poll_head(self: Pin<&mut Self>, turn: &mut Turn<'_, '_>) -> Poll<Result<Parts, Status>> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Sent { future } => {
                    return Poll::Ready(match ready!(future.poll(turn.cx)) {
                        Ok(response) => {
                            let (head, body) = response.into_parts();
                            this.state.set(State::Body { body });
                            Ok(head)
                        }
                        Err(status) => {
                            this.state.set(State::Idle);
                            Err(status)
                        }
                    });
                }
                StateProj::Waiting { request } => {
                    let ready = ready!(this.service.poll_ready(turn.cx));
                    let Some(request) = request.take() else {
                        return Poll::Pending;
                    };
                    this.state.set(match ready {
                        Ok(()) => State::Sent {
                            future: this.service.call(*request),
                        },
                        Err(status) => State::Refused {
                            status: Some(status),
                        },
                    });
                }
                StateProj::Refused { status } => {
                    if let Some(status) = status.take() {
                        return Poll::Ready(Err(status));
                    }
                    return Poll::Pending;
                }
                // There is nothing more to come.
                StateProj::Idle | StateProj::Body { .. } => return Poll::Pending,
            }
        }
    }

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        turn: &mut Turn<'_, '_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.project().state.project() {
            StateProj::Body { body } => body.poll_frame(turn.cx),
            _ => Poll::Ready(None),
        }
    }

    fn stop(self: Pin<&mut Self>) {
        self.project().state.set(State::Idle);
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Body { body } => body.is_end_stream(),
            State::Idle => true,
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Body { body } => body.size_hint(),
            _ => SizeHint::with_exact(0),
        }
    }
}

impl<S, F, B> fmt::Debug for Sent<S, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent").finish_non_exhaustive()
    }
}
