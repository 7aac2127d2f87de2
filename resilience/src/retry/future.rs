//! The future of one call: its attempts, and the waits between them.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body};
use tower_service::Service;

use super::{
    Shared,
    call::{Call, Next},
    commit::RetryBody,
};
use crate::context::CallRequest;

pin_project! {
    /// The future of [`Retry`](super::Retry).
    pub struct RetryFuture<S, C, B>
    where
        S: Service<C>,
    {
        service: S,
        call: Call,
        #[pin]
        state: State<S::Future, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B> {
        // An attempt is under way.
        Attempt { #[pin] future: F },
        // It has a head; its first message, or its end, will decide.
        Held { response: Option<Response<B>> },
        // Waiting to make the next.
        Backoff { #[pin] sleep: Sleep },
        // For the service to take it.
        Ready { request: Option<Request<Body>> },
    }
}

impl<S, C, B> RetryFuture<S, C, B>
where
    S: Service<C, Response = Response<B>, Error = Status>,
    C: CallRequest<Body = Body>,
{
    pub(super) fn new(mut service: S, shared: &Arc<Shared>, mut first: C) -> Self {
        let call = Call::of(&mut first, shared);
        let future = service.call(first);
        Self {
            service,
            call,
            state: State::Attempt { future },
        }
    }
}

impl<S, C, B> Future for RetryFuture<S, C, B>
where
    S: Service<C, Response = Response<B>, Error = Status>,
    C: CallRequest<Body = Body>,
    B: HttpBody<Data = Bytes, Error = Status> + Unpin,
{
    type Output = Result<Response<RetryBody<B>>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // Every turn either returns or moves on; attempts are bounded.
        loop {
            let failed = match this.state.as_mut().project() {
                StateProj::Attempt { future } => match ready!(future.poll(cx)) {
                    Ok(response) if this.call.may_hold(&response) => {
                        this.state.set(State::Held {
                            response: Some(response),
                        });
                        continue;
                    }
                    Ok(response) => return Poll::Ready(Ok(this.call.commit(response, None))),
                    Err(status) => status,
                },
                StateProj::Held { response: held } => {
                    let Some(response) = held else {
                        return Poll::Pending;
                    };
                    match ready!(Pin::new(response.body_mut()).poll_frame(cx)) {
                        Some(Err(status)) => status,
                        first => {
                            let first = first.and_then(Result::ok);
                            let Some(response) = held.take() else {
                                return Poll::Pending;
                            };
                            return Poll::Ready(Ok(this.call.commit(response, first)));
                        }
                    }
                }
                StateProj::Backoff { sleep } => {
                    ready!(sleep.poll(cx));
                    match this.call.after_wait() {
                        Ok(request) => {
                            this.state.set(State::Ready {
                                request: Some(request),
                            });
                            continue;
                        }
                        Err(status) => return Poll::Ready(Err(status)),
                    }
                }
                StateProj::Ready { request } => match ready!(this.service.poll_ready(cx)) {
                    Ok(()) => {
                        let Some(request) = request.take() else {
                            return Poll::Pending;
                        };
                        let future = this.service.call(this.call.send(request));
                        this.state.set(State::Attempt { future });
                        continue;
                    }
                    Err(status) => status,
                },
            };
            match this.call.failed(failed) {
                Next::Send(request) => this.state.set(State::Ready {
                    request: Some(request),
                }),
                Next::Wait(delay) => this.state.set(State::Backoff {
                    sleep: sleep(delay),
                }),
                Next::Finish(status) => return Poll::Ready(Err(status)),
            }
        }
    }
}

impl<S, C, B> fmt::Debug for RetryFuture<S, C, B>
where
    S: Service<C>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
