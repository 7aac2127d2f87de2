//! What one call knows about itself, and what it does when an attempt fails.

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderValue, Request};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use super::{
    Attempts, PREVIOUS_ATTEMPTS_HEADER, RetryStopped, Shared,
    budget::{Withdrawal, settle},
    commit::Committed,
    decision::{Decision, Failed, StopReason, decide},
    replay::Replay,
};
use crate::{
    context::Context, method_config::MethodPolicy, metrics::RetryHandles, rejection::Rejection,
};

/// What one call knows about itself.
#[derive(Debug)]
pub(super) struct Call {
    context: Context,
    replay: Replay,
    /// Attempts begun, transparent retries not counted.
    attempts: u32,
    transparent: u32,
    /// Retries since the upstream last named a delay.
    backoffs: u32,
    /// What was paid for the retry that is waiting or under way, or that was
    /// not processed and is sent again.
    withdrawal: Option<Withdrawal>,
    /// Whether the attempt under way is a transparent retry.
    again: bool,
    /// The last real failure.
    last: Option<Status>,
    /// Counts the retries when the call is over, however it ends.
    tally: Option<Box<Tally>>,
}

/// What comes after an attempt has failed.
#[expect(clippy::large_enum_variant)] // lives on the stack, for a moment
pub(super) enum Next {
    Send(Request<Body>),
    Wait(Duration),
    Finish(Status),
}

impl Call {
    /// A call whose first attempt is `first`, and can be made again from
    /// `replay`.
    #[inline]
    pub(super) fn of(
        first: &Request<Body>,
        replay: Replay,
        context: &mut Context,
        shared: &Shared,
    ) -> Self {
        context.method(&shared.upstream, first);
        Self {
            context: *context,
            replay,
            attempts: 1,
            transparent: 0,
            backoffs: 0,
            withdrawal: None,
            again: false,
            last: None,
            tally: None,
        }
    }

    fn policy<'a>(&self, shared: &'a Shared) -> &'a MethodPolicy {
        shared.upstream.policy(self.context.known_method())
    }

    /// Whether to hold a response back until its first message: not one that
    /// could not be retried.
    pub(super) fn may_hold(&self, shared: &Shared) -> bool {
        self.policy(shared).holds() && self.replay.once().is_none()
    }

    /// A response is final, with `extensions` in its head: what is still to be
    /// known of the call until it is over.
    pub(super) fn commit(&mut self, extensions: &mut Extensions) -> Committed {
        if !self.is_first() {
            extensions.insert(Attempts {
                retries: self.attempts - 1,
                transparent: self.transparent,
            });
        }
        Committed {
            method: self.context.known_method(),
            withdrawal: self.withdrawal.take(),
            retried: self.attempts > 1,
        }
    }

    pub(super) fn failed(&mut self, status: Status, now: Instant, shared: &Shared) -> Next {
        if let Some(rejection) = Rejection::of(&status).cloned() {
            return Next::Finish(self.refused(rejection, status, shared));
        }
        let policy = self.policy(shared);
        let failed = Failed {
            status: &status,
            rule: shared.upstream.retry_rule(&status),
            attempts: self.attempts,
            max_attempts: policy.max_attempts,
            transparent_used: self.transparent > 0,
            idempotent: policy.idempotent,
            committed: false,
            once: self.replay.once(),
            remaining: self.context.remaining(now),
        };
        let backoff = || shared.backoff.delay(self.backoffs + 1, shared.dice());
        let mut paid = None;
        let decision = match decide(&failed, backoff) {
            retry @ Decision::Retry { .. } => {
                paid = Withdrawal::from(&shared.budget);
                match &paid {
                    Some(_) => retry,
                    None => Decision::Stop(StopReason::Budget),
                }
            }
            decision => decision,
        };
        let reason = match decision {
            Decision::Stop(reason) if shared.upstream.is_answer(&status) => {
                // The upstream works, and what was paid for the attempt goes
                // back. That an answer is not asked for again is no news,
                // unless it was to be.
                settle(&*shared.budget, self.withdrawal.take(), self.attempts > 1);
                return Next::Finish(if reason == StopReason::Budget {
                    self.stop(reason, None, status, shared)
                } else if self.is_first() {
                    status
                } else {
                    self.because(reason, None, status)
                });
            }
            Decision::Stop(reason) => reason,
            // What was paid for the attempt is for the next one still.
            Decision::Transparent => match self.request() {
                Some(request) => {
                    tracing::debug!(failure = %status.code(), "not processed: sent again");
                    self.again = true;
                    self.transparent += 1;
                    self.tally(shared).transparent += 1;
                    self.last = Some(status);
                    return Next::Send(request);
                }
                None => StopReason::Committed,
            },
            Decision::Retry { delay, pushback } => {
                tracing::debug!(failure = %status.code(), ?delay, pushback, "to be retried");
                // What was paid for the last one is spent.
                self.withdrawal = paid;
                self.again = false;
                // After a pushback the backoff starts over (gRFC A6).
                self.backoffs = if pushback { 0 } else { self.backoffs + 1 };
                self.tally(shared).delay += delay;
                self.last = Some(status);
                return Next::Wait(delay);
            }
        };
        Next::Finish(self.stop(reason, None, status, shared))
    }

    /// The attempt was refused here. That is not an attempt: if it was a retry,
    /// nothing was retried.
    fn refused(&mut self, rejection: Rejection, status: Status, shared: &Shared) -> Status {
        let Some(last) = self.last.take() else {
            return status;
        };
        if self.again {
            self.transparent -= 1;
            self.tally(shared).transparent -= 1;
        } else if let Some(withdrawal) = self.withdrawal.take() {
            withdrawal.refund();
            self.attempts -= 1;
            self.tally(shared).retries -= 1;
        }
        // The caller sees what really happened before.
        self.stop(StopReason::Refused, Some(rejection), last, shared)
    }

    /// The wait is over: the request to send, unless time is up.
    pub(super) fn after_wait(
        &mut self,
        now: Instant,
        shared: &Shared,
    ) -> Result<Request<Body>, Status> {
        if self
            .context
            .remaining(now)
            .is_none_or(|left| !left.is_zero())
        {
            self.attempts += 1;
            if let Some(request) = self.request() {
                self.tally(shared).retries += 1;
                return Ok(request);
            }
            self.attempts -= 1;
        }
        // A timer may be late, and the deadline with it: nothing was sent, so
        // what was paid goes back.
        self.withdrawal = None;
        let last = self.last.take();
        let last = last.unwrap_or_else(|| Rejection::DeadlineExceeded.into_status());
        Err(self.stop(StopReason::Deadline, None, last, shared))
    }

    /// The request again. The upstream is told how many attempts came before
    /// (gRFC A6).
    fn request(&self) -> Option<Request<Body>> {
        let mut request = self.replay.again()?;
        if self.attempts > 1 {
            let previous = HeaderValue::from(self.attempts - 1);
            request
                .headers_mut()
                .insert(PREVIOUS_ATTEMPTS_HEADER, previous);
        }
        Some(request)
    }

    /// Another attempt begins: what is known of it.
    pub(super) fn begin(&mut self, now: Instant) -> Context {
        if let Some(withdrawal) = &mut self.withdrawal {
            withdrawal.sent();
        }
        let previous = self.attempts + self.transparent - 1;
        self.context.retry(now, previous, self.again)
    }

    /// Whether nothing was tried again so far.
    fn is_first(&self) -> bool {
        self.attempts == 1 && self.transparent == 0
    }

    fn stop(
        &self,
        reason: StopReason,
        rejection: Option<Rejection>,
        last: Status,
        shared: &Shared,
    ) -> Status {
        tracing::debug!(reason = reason.as_str(), failure = %last.code(), "not retried");
        shared.stopped.count(reason);
        self.because(reason, rejection, last)
    }

    /// `last`, and why it is the last.
    fn because(&self, reason: StopReason, rejection: Option<Rejection>, last: Status) -> Status {
        RetryStopped {
            reason,
            attempts: self.attempts + self.transparent,
            retries: self.attempts - 1,
            rejection,
            last,
        }
        .into_status()
    }

    fn tally(&mut self, shared: &Shared) -> &mut Tally {
        self.tally.get_or_insert_with(|| {
            Box::new(Tally {
                handles: Arc::clone(shared.methods.get(self.context.known_method())),
                retries: 0,
                transparent: 0,
                delay: Duration::ZERO,
            })
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
