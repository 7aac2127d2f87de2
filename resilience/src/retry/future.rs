//! One call: its attempts, the waits between them, and the commit.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Status, body::Body};
use tower_service::Service;

use super::{
    Attempts, PREVIOUS_ATTEMPTS_HEADER, RetryStopped, Shared,
    backoff::Delays,
    budget::Withdrawal,
    decision::{Decision, Failed, StopReason, decide},
    replay::Replay,
};
use crate::{
    classify,
    deadline::Deadline,
    method::MethodName,
    metrics::RetryHandles,
    rejection::Rejection,
    watch::{End, Watch, WatchedBody},
};

pin_project! {
    /// The future of [`Retry`](super::Retry).
    pub struct RetryFuture<S, B>
    where
        S: Service<Request<Body>>,
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

/// What one call knows about itself.
#[derive(Debug)]
struct Call {
    shared: Arc<Shared>,
    replay: Replay,
    idempotent: bool,
    deadline: Option<Deadline>,
    /// Attempts begun, transparent retries not counted.
    attempts: u32,
    transparent: u32,
    delays: Option<Delays>,
    /// What was paid for the retry that is waiting or under way.
    withdrawal: Option<Withdrawal>,
    /// The last real failure.
    last: Option<Status>,
    /// Counts the retries when the call is over, however it ends.
    tally: Option<Tally>,
}

impl<S, B> RetryFuture<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Status>,
{
    pub(super) fn new(
        mut service: S,
        shared: Arc<Shared>,
        replay: Replay,
        first: Request<Body>,
        idempotent: bool,
        deadline: Option<Deadline>,
    ) -> Self {
        let future = service.call(first);
        let call = Call {
            shared,
            replay,
            idempotent,
            deadline,
            attempts: 1,
            transparent: 0,
            delays: None,
            withdrawal: None,
            last: None,
            tally: None,
        };
        Self {
            service,
            call,
            state: State::Attempt { future },
        }
    }
}

/// What comes after an attempt has failed.
#[expect(clippy::large_enum_variant)] // lives on the stack, for a moment
enum Next {
    Send(Request<Body>),
    Wait(Duration),
    Finish(Status),
}

impl<S, B> Future for RetryFuture<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Status>,
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
                        this.call.sent();
                        let future = this.service.call(request);
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

impl Call {
    /// Whether to hold a response back until its first message: not one that
    /// could not be retried, and not one that is over.
    fn may_hold<B: HttpBody>(&self, response: &Response<B>) -> bool {
        matches!(self.replay, Replay::Whole { .. }) && !response.body().is_end_stream()
    }

    fn commit<B>(
        &mut self,
        mut response: Response<B>,
        first: Option<Frame<Bytes>>,
    ) -> Response<RetryBody<B>>
    where
        B: HttpBody<Data = Bytes, Error = Status> + Unpin,
    {
        if self.attempts > 1 || self.transparent > 0 {
            response.extensions_mut().insert(Attempts {
                retries: self.attempts - 1,
                transparent: self.transparent,
            });
        }
        let committed = Committed {
            shared: Arc::clone(&self.shared),
            withdrawal: self.withdrawal.take(),
            retried: self.attempts > 1,
            idempotent: self.idempotent,
        };
        response.map(|body| WatchedBody::new(Resumed { first, body }, committed))
    }

    fn failed(&mut self, status: Status) -> Next {
        let rejection = Rejection::of(&status).cloned();
        if let Some(rejection) = rejection {
            // A refusal is not an attempt: nothing was retried.
            match self.withdrawal.take() {
                Some(withdrawal) => {
                    withdrawal.refund();
                    self.attempts -= 1;
                    self.tally().retries -= 1;
                }
                None if self.last.is_some() => {
                    self.transparent -= 1;
                    self.tally().transparent -= 1;
                }
                None => {}
            }
            return Next::Finish(match self.last.take() {
                // The caller sees what really happened before.
                Some(last) => self.stop(StopReason::Refused, Some(rejection), last),
                None => status,
            });
        }
        if classify::is_answer(&status) {
            // The upstream works, and what was paid for the attempt goes back.
            self.shared
                .budget
                .settle(self.withdrawal.take(), self.attempts > 1);
        }
        // Else it is spent.
        self.withdrawal = None;
        let now = Instant::now();
        let again = self.replay.again();
        let delays = &mut self.delays;
        let shared = &self.shared;
        let decision = decide(
            &Failed {
                status: &status,
                attempts: self.attempts,
                max_attempts: shared.config.max_attempts,
                transparent_used: self.transparent > 0,
                idempotent: self.idempotent,
                committed: false,
                once: again.as_ref().err().copied(),
                remaining: self.deadline.map(|deadline| deadline.remaining(now)),
            },
            || {
                delays
                    .get_or_insert_with(|| Delays::new(shared.config.backoff))
                    .next(shared.dice())
            },
        );
        let reason = match (decision, again) {
            (Decision::Transparent, Ok(request)) => {
                self.transparent += 1;
                self.tally().transparent += 1;
                self.last = Some(status);
                return Next::Send(self.numbered(request));
            }
            (Decision::Retry { delay, pushback }, Ok(_)) => match self.shared.budget.withdraw() {
                Some(withdrawal) => {
                    self.withdrawal = Some(withdrawal);
                    if pushback && let Some(delays) = &mut self.delays {
                        delays.reset();
                    }
                    self.tally().delay += delay;
                    self.last = Some(status);
                    return Next::Wait(delay);
                }
                None => StopReason::Budget,
            },
            (Decision::Stop(reason), _) => reason,
            (_, Err(_)) => StopReason::Committed,
        };
        Next::Finish(self.stop(reason, None, status))
    }

    /// The wait is over: the request to send, unless time is up.
    fn after_wait(&mut self) -> Result<Request<Body>, Status> {
        let late = self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline.0);
        match (self.replay.again(), self.last.take()) {
            (Ok(request), last) if !late => {
                self.last = last;
                self.attempts += 1;
                self.tally().retries += 1;
                Ok(self.numbered(request))
            }
            // A timer may be late, and the deadline with it: nothing was sent,
            // so what was paid goes back.
            (_, last) => {
                self.withdrawal = None;
                let last = last.unwrap_or_else(|| Rejection::DeadlineExceeded.into_status());
                Err(self.stop(StopReason::Deadline, None, last))
            }
        }
    }

    /// The upstream is told how many attempts came before (gRFC A6).
    fn numbered(&self, mut request: Request<Body>) -> Request<Body> {
        if self.attempts > 1 {
            let previous = HeaderValue::from(self.attempts - 1);
            request
                .headers_mut()
                .insert(PREVIOUS_ATTEMPTS_HEADER, previous);
        }
        request
    }

    fn sent(&mut self) {
        if let Some(withdrawal) = &mut self.withdrawal {
            withdrawal.sent();
        }
    }

    fn stop(&self, reason: StopReason, rejection: Option<Rejection>, last: Status) -> Status {
        self.shared.stopped.count(reason);
        RetryStopped {
            reason,
            attempts: self.attempts + self.transparent,
            retries: self.attempts - 1,
            rejection,
            last,
        }
        .into_status()
    }

    fn tally(&mut self) -> &mut Tally {
        let Self {
            tally,
            shared,
            replay,
            ..
        } = self;
        tally.get_or_insert_with(|| {
            let method = match replay {
                Replay::Whole { parts, .. } => MethodName::generated(&parts.extensions),
                Replay::Once(_) => None,
            };
            Tally {
                handles: shared.methods.get(method),
                retries: 0,
                transparent: 0,
                delay: Duration::ZERO,
            }
        })
    }
}

/// The retries of one call, recorded when it is over (gRFC A96: calls without
/// any are not).
#[derive(Debug)]
struct Tally {
    handles: Arc<RetryHandles>,
    retries: u32,
    transparent: u32,
    delay: Duration,
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.retries > 0 {
            self.handles.retries.record(f64::from(self.retries));
            self.handles.delay.record(self.delay);
        }
        if self.transparent > 0 {
            self.handles.transparent.record(f64::from(self.transparent));
        }
    }
}

/// Settles with the budget when the response that the caller got is over.
#[derive(Debug)]
pub struct Committed {
    shared: Arc<Shared>,
    withdrawal: Option<Withdrawal>,
    retried: bool,
    idempotent: bool,
}

impl Watch for Committed {
    fn ended(self, end: End<'_>) {
        match end {
            End::Ok => self.shared.budget.settle(self.withdrawal, self.retried),
            End::Failed(status) if classify::is_answer(status) => {
                self.shared.budget.settle(self.withdrawal, self.retried);
            }
            End::Failed(status) if Rejection::of(status).is_none() => {
                let failed = Failed {
                    status,
                    attempts: 1,
                    max_attempts: self.shared.config.max_attempts,
                    transparent_used: false,
                    idempotent: self.idempotent,
                    committed: true,
                    once: None,
                    remaining: None,
                };
                if let Decision::Stop(reason) = decide(&failed, || Duration::ZERO) {
                    self.shared.stopped.count(reason);
                }
            }
            End::Failed(_) | End::Dropped => {}
        }
    }
}

/// The response body of a call that may have been retried.
pub(crate) type RetryBody<B> = WatchedBody<Resumed<B>, Committed>;

/// A body whose first frame has been read already.
#[derive(Debug, Default)]
pub struct Resumed<B> {
    first: Option<Frame<Bytes>>,
    body: B,
}

impl<B> HttpBody for Resumed<B>
where
    B: HttpBody<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut this.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Of the rest; the first frame may add to it.
        let rest = self.body.size_hint();
        if self.first.is_none() {
            rest
        } else {
            SizeHint::default()
        }
    }
}

impl<S, B> fmt::Debug for RetryFuture<S, B>
where
    S: Service<Request<Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
