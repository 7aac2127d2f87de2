//! What one call knows about itself, and what it does when an attempt fails.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use super::{
    Attempts, PREVIOUS_ATTEMPTS_HEADER, RetryStopped, Shared,
    backoff::Delays,
    budget::Withdrawal,
    commit::{Committed, Resumed, RetryBody},
    decision::{Decision, Failed, StopReason, decide},
    replay::Replay,
};
use crate::{
    classify, deadline::Deadline, method::MethodName, metrics::RetryHandles, rejection::Rejection,
    watch::WatchedBody,
};

/// What one call knows about itself.
#[derive(Debug)]
pub(super) struct Call {
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

/// What comes after an attempt has failed.
#[expect(clippy::large_enum_variant)] // lives on the stack, for a moment
pub(super) enum Next {
    Send(Request<Body>),
    Wait(Duration),
    Finish(Status),
}

impl Call {
    /// A call whose first attempt is on its way.
    pub(super) fn new(
        shared: Arc<Shared>,
        replay: Replay,
        idempotent: bool,
        deadline: Option<Deadline>,
    ) -> Self {
        Self {
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
        }
    }

    /// Whether to hold a response back until its first message: not one that
    /// could not be retried, and not one that is over.
    pub(super) fn may_hold<B: HttpBody>(&self, response: &Response<B>) -> bool {
        matches!(self.replay, Replay::Whole { .. }) && !response.body().is_end_stream()
    }

    pub(super) fn commit<B>(
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

    pub(super) fn failed(&mut self, status: Status) -> Next {
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
    pub(super) fn after_wait(&mut self) -> Result<Request<Body>, Status> {
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

    pub(super) fn sent(&mut self) {
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
