//! The time that a call has, and what says so.
//!
//! A call's deadline is the earliest of three: the request's own
//! `grpc-timeout`, the deadline of the call that is being served (less a
//! margin), and the configured default. It covers everything: queueing,
//! connecting, all attempts, the waits between them, and the response to its
//! last trailer. tonic's own timeouts end at the response head, and say
//! CANCELLED.
//!
//! | file | what |
//! | --- | --- |
//! | `server.rs` | stamps the deadline of an inbound call |
//! | `wire.rs` | the `grpc-timeout` header |

mod server;
pub(crate) mod wire;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::{HeaderMap, Request};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower_layer::Layer;

pub use self::server::{InboundDeadline, InboundDeadlineFuture, InboundDeadlineLayer};
use crate::{
    cause,
    config::LONGEST,
    context::Context,
    guard::{Admission, End, Guarded, Over, Policy},
    metrics::Rejections,
    rejection::Rejection,
    upstream::Upstream,
};

/// When a call must be over: an extension of requests.
///
/// On a server, [`InboundDeadlineLayer`] puts it there. A handler passes it on
/// to the calls that it makes, so that they end, with a margin, before the
/// caller has gone:
///
/// ```
/// # use resilience::Deadline;
/// # use tonic::Request;
/// # fn handle(inbound: &Request<()>) {
/// let mut outbound = Request::new(());
/// if let Some(deadline) = Deadline::of(inbound.extensions()) {
///     outbound.extensions_mut().insert(deadline);
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// Less time than this is kept back for the way home: a call that is made
    /// on behalf of another ends this long before the other's deadline.
    pub const MARGIN: Duration = Duration::from_millis(10);

    /// The deadline among the extensions of a request.
    #[must_use]
    pub fn of(extensions: &http::Extensions) -> Option<Self> {
        extensions.get().copied()
    }

    /// The time left at `now`; zero when it has passed.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

/// Time ran out here, after the attempt or the call was under way; the source
/// of a [`Status`] with code DEADLINE_EXCEEDED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut {
    /// What ran out of time.
    pub scope: Scope,
    /// The time that it was given: to the attempt, or to what was left of the
    /// call when it began.
    pub after: Duration,
}

/// What ran out of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// One attempt; there may be time for another.
    Attempt,
    /// The whole call.
    Call,
}

impl TimedOut {
    /// The timeout behind `status`, or `None` when something else is.
    #[must_use]
    pub fn of(status: &Status) -> Option<&Self> {
        cause::find(status)
    }

    pub(crate) fn into_status(self) -> Status {
        let mut status = Status::deadline_exceeded(self.to_string());
        status.set_source(Arc::new(self));
        status
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            Scope::Attempt => write!(f, "no complete answer within {} ms", self.after.as_millis()),
            Scope::Call => f.write_str("deadline of the call exceeded"),
        }
    }
}

impl Error for TimedOut {}

impl TimedOut {
    /// What `status` really says, which came from below when time was to be up
    /// at `expires`.
    ///
    /// Somebody else may have had an eye on the same time, and be heard first:
    /// a server that was told it, which says CANCELLED if it is tonic's, and
    /// tonic's channel, which reads `grpc-timeout` too.
    pub(crate) fn translate(self, status: Status, expires: Instant) -> Status {
        // Timers count in milliseconds.
        let time_is_up = || Instant::now() + Duration::from_millis(1) >= expires;
        let foreign = || Self::of(&status).is_none() && Rejection::of(&status).is_none();
        match status.code() {
            Code::Cancelled | Code::DeadlineExceeded if foreign() && time_is_up() => {
                self.into_status()
            }
            _ => status,
        }
    }
}

/// Gives every call a deadline, to its last trailer.
///
/// It is the earliest of the request's own `grpc-timeout`, of the [`Deadline`]
/// of the call that is being served, less [`Deadline::MARGIN`], and of what the
/// configuration gives the method. Layers below find it as [`Deadline`] in the
/// request. A method without a deadline has one when its caller sets it.
#[derive(Debug, Clone)]
pub struct DeadlineLayer {
    policy: Arc<DeadlinePolicy>,
}

impl DeadlineLayer {
    /// Calls to `upstream` end by their deadline.
    #[must_use]
    pub fn new(upstream: &Upstream) -> Self {
        Self {
            policy: Arc::new(DeadlinePolicy::new(upstream, true)),
        }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        Guarded::new(inner, &self.policy)
    }
}

/// Gives every call a deadline: see [`DeadlineLayer`].
///
/// # Errors
/// [`Rejection::DeadlineExceeded`] when nothing is left at the start: nothing
/// is sent. [`TimedOut`] with [`Scope::Call`] when time runs out on the way.
/// Both are DEADLINE_EXCEEDED.
pub type WithDeadline<S> = Guarded<S, DeadlinePolicy>;

/// What [`DeadlineLayer`] does at the start of a call.
#[derive(Debug)]
pub struct DeadlinePolicy {
    upstream: Upstream,
    rejections: Rejections,
    /// Whether to end the call by a timer of its own.
    timer: bool,
}

impl DeadlinePolicy {
    pub(crate) fn new(upstream: &Upstream, timer: bool) -> Self {
        Self {
            upstream: upstream.clone(),
            rejections: Rejections::new(upstream.name()),
            timer,
        }
    }
}

impl Policy for DeadlinePolicy {
    type Leave = ();

    #[inline]
    fn admit(&self, (): &mut (), context: &mut Context, request: &mut Request<Body>) -> Admission {
        let method = context.method(&self.upstream, request);
        let left = time_left(
            self.upstream.policy(method).deadline,
            requested(request.headers()),
            context.left(),
        );
        if left.is_some_and(|left| left.is_zero()) {
            return Admission::Refused(self.rejections.reject(Rejection::DeadlineExceeded));
        }
        context.set_left(left);
        Admission::Admitted
    }

    #[inline]
    fn expires(&self, (): &(), context: &Context) -> Option<Instant> {
        context.deadline().filter(|_| self.timer)
    }

    fn expired(&self, (): &(), context: &Context) -> Status {
        of_call(context).into_status()
    }

    fn translate(&self, (): &(), context: &Context, status: Status) -> Status {
        match self.expires(&(), context) {
            Some(expires) => of_call(context).translate(status, expires),
            None => status,
        }
    }

    #[inline]
    fn ended(&self, (): &mut (), _: &Context, _: End<'_>, _: Over) {}
}

/// The call has run out of time.
fn of_call(context: &Context) -> TimedOut {
    TimedOut {
        scope: Scope::Call,
        after: context.left().unwrap_or_default(),
    }
}

/// What the caller of a request asks for. Beyond what a clock can be sure to
/// hold, a timeout is none.
#[inline]
pub(crate) fn requested(headers: &HeaderMap) -> Option<Duration> {
    wire::read(headers).filter(|timeout| *timeout <= LONGEST)
}

/// The time that a call has: the least of what was configured, of what the
/// request asks for, and of what the inbound call has left less the margin.
/// `None`: nobody says.
fn time_left(
    default: Option<Duration>,
    requested: Option<Duration>,
    inbound: Option<Duration>,
) -> Option<Duration> {
    let inbound = inbound.map(|left| left.saturating_sub(Deadline::MARGIN));
    [default, requested, inbound].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_earliest_of_the_three_wins() {
        let left = |default, requested, inbound| {
            time_left(default, requested, inbound).map(|left| left.as_millis())
        };
        let default = Some(ms(1000));
        assert_eq!(left(default, None, None), Some(1000));
        assert_eq!(left(default, Some(ms(300)), None), Some(300));
        assert_eq!(left(default, Some(ms(5000)), None), Some(1000));
        assert_eq!(left(default, Some(ms(300)), Some(ms(200))), Some(190));
        assert_eq!(left(default, Some(ms(100)), Some(ms(200))), Some(100));
        assert_eq!(left(None, None, Some(ms(200))), Some(190));
        assert_eq!(left(None, None, None), None);
    }

    #[test]
    fn a_caller_who_asks_for_more_than_a_clock_can_hold_asks_for_nothing() {
        let mut headers = HeaderMap::new();
        for (text, asked) in [("99999999H", None), ("1H", Some(ms(3_600_000)))] {
            headers.insert(&wire::TIMEOUT_HEADER, text.parse().unwrap());
            assert_eq!(requested(&headers), asked, "{text}");
        }
    }

    #[test]
    fn an_inbound_call_with_no_more_than_the_margin_leaves_nothing() {
        for inbound in [ms(10), ms(0)] {
            assert_eq!(time_left(Some(ms(1000)), None, Some(inbound)), Some(ms(0)));
        }
    }
}
