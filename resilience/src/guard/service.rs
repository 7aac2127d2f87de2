//! The service that asks a policy, and the future that its guard rides in.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tower_service::Service;
use tracing::Span;

use super::{Admission, Admitted, End, GuardedBody, Policy};
use crate::context::{CallRequest, Context};

/// A service that is asked for through a policy.
///
/// It reserves nothing in `poll_ready`, and returns no error from there: a
/// generated client awaits readiness *before* the call, outside every timeout,
/// and reports an error from there as UNKNOWN with its source lost.
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

impl<S, P, C, B> Service<C> for Guarded<S, P>
where
    S: Service<C, Response = Response<B>, Error = Status> + Clone,
    P: Policy,
    C: CallRequest,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Response = Response<GuardedBody<B, P>>;
    type Error = Status;
    type Future = GuardedFuture<S, P, C>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut call: C) -> Self::Future {
        let mut context = call.context();
        let admission = self.policy.admit(&mut context, call.request_mut());
        let state = match admission {
            Admission::Admitted(leave) => {
                call.set_context(context);
                let admitted = Admitted {
                    policy: Arc::clone(&self.policy),
                    context,
                    leave: Some(leave),
                };
                State::sent(within(admitted.span(), || self.inner.call(call)), admitted)
            }
            Admission::Refused(status) => State::Refused {
                status: Some(status),
            },
            Admission::Wait(wait) => {
                // The service that is ready is the one to call; a copy stays.
                let copy = self.inner.clone();
                let service = mem::replace(&mut self.inner, copy);
                let waiting = Waiting {
                    policy: Arc::clone(&self.policy),
                    wait,
                    context,
                    call: Some(call),
                    service,
                };
                State::Waiting {
                    waiting: Box::new(waiting),
                }
            }
        };
        GuardedFuture { state }
    }
}

pin_project! {
    /// The future of [`Guarded`].
    pub struct GuardedFuture<S, P, C>
    where
        S: Service<C>,
        P: Policy,
    {
        #[pin]
        state: State<S, P, C>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, P, C>
    where
        S: Service<C>,
        P: Policy,
    {
        // For leave.
        Waiting { waiting: Box<Waiting<S, P, C>> },
        // For the response head.
        Sent {
            #[pin]
            inner: S::Future,
            // `None` once it is in the body.
            admitted: Option<Admitted<P>>,
            // Registered with the runtime at the first wait only.
            #[pin]
            sleep: Option<Sleep>,
        },
        Refused { status: Option<Status> },
    }
}

impl<S, P, C> State<S, P, C>
where
    S: Service<C>,
    P: Policy,
{
    #[inline]
    fn sent(inner: S::Future, admitted: Admitted<P>) -> Self {
        Self::Sent {
            inner,
            admitted: Some(admitted),
            sleep: None,
        }
    }
}

/// An attempt that waits for leave. Boxed, as hardly any does.
struct Waiting<S, P: Policy, C> {
    policy: Arc<P>,
    wait: P::Wait,
    context: Context,
    call: Option<C>,
    service: S,
}

impl<S, P, C> Waiting<S, P, C>
where
    S: Service<C, Error = Status>,
    P: Policy,
    C: CallRequest,
{
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<State<S, P, C>, Status>> {
        // Below, everything is ready at any time: see `Edge`.
        ready!(self.service.poll_ready(cx))?;
        let Some(mut call) = self.call.take() else {
            return Poll::Pending;
        };
        let (wait, context) = (&mut self.wait, &mut self.context);
        match self
            .policy
            .poll_admit(wait, context, call.request_mut(), cx)
        {
            Poll::Ready(Ok(leave)) => {
                call.set_context(self.context);
                let admitted = Admitted {
                    policy: Arc::clone(&self.policy),
                    context: self.context,
                    leave: Some(leave),
                };
                let inner = within(admitted.span(), || self.service.call(call));
                Poll::Ready(Ok(State::sent(inner, admitted)))
            }
            Poll::Ready(Err(status)) => Poll::Ready(Err(status)),
            Poll::Pending => {
                self.call = Some(call);
                Poll::Pending
            }
        }
    }
}

impl<S, P, C, B> Future for GuardedFuture<S, P, C>
where
    S: Service<C, Response = Response<B>, Error = Status>,
    P: Policy,
    C: CallRequest,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Output = Result<Response<GuardedBody<B, P>>, Status>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Sent {
                    inner,
                    admitted,
                    sleep,
                } => return poll_sent(inner, admitted, sleep, cx),
                StateProj::Waiting { waiting } => match ready!(waiting.poll(cx)) {
                    Ok(sent) => state.set(sent),
                    Err(status) => return Poll::Ready(Err(status)),
                },
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

#[inline]
fn poll_sent<F, P, B>(
    inner: Pin<&mut F>,
    held: &mut Option<Admitted<P>>,
    mut sleep: Pin<&mut Option<Sleep>>,
    cx: &mut TaskContext<'_>,
) -> Poll<Result<Response<GuardedBody<B, P>>, Status>>
where
    F: Future<Output = Result<Response<B>, Status>>,
    P: Policy,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    let span = held.as_ref().and_then(Admitted::span);
    let polled = within(span, || inner.poll(cx));
    let Some(admitted) = held else {
        // Polled after it was done: there is nothing more to come.
        return Poll::Pending;
    };
    // An answer that is there counts, even when time is up as well.
    let status = match polled {
        Poll::Ready(Ok(response)) => {
            admitted.head(response.extensions());
            let admitted = held.take();
            return Poll::Ready(Ok(response.map(|body| GuardedBody::new(body, admitted))));
        }
        Poll::Ready(Err(status)) => admitted.translate(status),
        Poll::Pending => {
            ready!(poll_expired(admitted.expires(), sleep.as_mut(), cx));
            admitted.expired()
        }
    };
    admitted.end(End::Failed(&status));
    Poll::Ready(Err(status))
}

/// Does `what` in `span`, if there is one.
#[inline]
fn within<T>(span: Option<&Span>, what: impl FnOnce() -> T) -> T {
    match span {
        Some(span) if !span.is_disabled() => span.in_scope(what),
        _ => what(),
    }
}

/// Whether time is up, if there is an end to it.
fn poll_expired(
    expires: Option<Instant>,
    mut sleep: Pin<&mut Option<Sleep>>,
    cx: &mut TaskContext<'_>,
) -> Poll<()> {
    let Some(expires) = expires else {
        return Poll::Pending;
    };
    if sleep.is_none() {
        sleep.set(Some(sleep_until(expires)));
    }
    match sleep.as_pin_mut() {
        Some(sleep) => sleep.poll(cx),
        None => Poll::Pending,
    }
}

impl<S, P, C> fmt::Debug for GuardedFuture<S, P, C>
where
    S: Service<C>,
    P: Policy,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedFuture").finish_non_exhaustive()
    }
}
