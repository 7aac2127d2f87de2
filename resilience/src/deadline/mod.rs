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

use std::{
    error::Error,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

pub use self::server::{InboundDeadline, InboundDeadlineLayer};
use crate::{
    cause,
    config::{ConfigError, positive},
    metrics::Rejections,
    refuse::MaybeRefused,
    rejection::Rejection,
    timer::{Expiry, TimedBody, TimedFuture},
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

impl Expiry for TimedOut {
    fn expired(&self) -> Status {
        self.into_status()
    }

    /// Somebody else may have had an eye on the same time, and be heard first:
    /// a server that was told it, which says CANCELLED if it is tonic's, and
    /// tonic's channel, which reads `grpc-timeout` too.
    fn translate(&self, status: Status, fires: Instant) -> Status {
        // Timers count in milliseconds.
        let time_is_up = || Instant::now() + Duration::from_millis(1) >= fires;
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
/// of the call that is being served, less [`Deadline::MARGIN`], and of the
/// configured default. Layers below find it as [`Deadline`] in the request.
#[derive(Debug, Clone)]
pub struct DeadlineLayer {
    default: Duration,
    rejections: Rejections,
}

impl DeadlineLayer {
    /// Calls to `upstream` end after `default`, if not earlier.
    ///
    /// # Errors
    /// When `default` is zero, or more than a year.
    pub fn new(upstream: &str, default: Duration) -> Result<Self, ConfigError> {
        positive("deadline", default)?;
        Ok(Self {
            default,
            rejections: Rejections::new(upstream),
        })
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline {
            inner,
            layer: self.clone(),
        }
    }
}

/// Gives every call a deadline: see [`DeadlineLayer`].
///
/// # Errors
/// [`Rejection::DeadlineExceeded`] when nothing is left at the start: nothing
/// is sent. [`TimedOut`] with [`Scope::Call`] when time runs out on the way.
/// Both are DEADLINE_EXCEEDED.
#[derive(Debug, Clone)]
pub struct WithDeadline<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S, R, B> Service<Request<R>> for WithDeadline<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Status>,
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Response = Response<TimedBody<B, TimedOut>>;
    type Error = Status;
    type Future = MaybeRefused<TimedFuture<S::Future, TimedOut>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let now = Instant::now();
        let left = time_left(
            self.layer.default,
            wire::read(request.headers()),
            Deadline::of(request.extensions()).map(|deadline| deadline.remaining(now)),
        );
        if left.is_zero() {
            let status = self.layer.rejections.reject(Rejection::DeadlineExceeded);
            return MaybeRefused::refused(status);
        }
        let deadline = Deadline(now + left);
        request.extensions_mut().insert(deadline);
        let expiry = TimedOut {
            scope: Scope::Call,
            after: left,
        };
        MaybeRefused::sent(TimedFuture::new(
            self.inner.call(request),
            deadline.0,
            expiry,
        ))
    }
}

/// The time that a call has: the least of what was configured, of what the
/// request asks for, and of what the inbound call has left less the margin.
fn time_left(
    default: Duration,
    requested: Option<Duration>,
    inbound: Option<Duration>,
) -> Duration {
    let inbound = inbound.map(|left| left.saturating_sub(Deadline::MARGIN));
    [requested, inbound]
        .into_iter()
        .flatten()
        .fold(default, Duration::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_earliest_of_the_three_wins() {
        assert_eq!(time_left(ms(1000), None, None), ms(1000));
        assert_eq!(time_left(ms(1000), Some(ms(300)), None), ms(300));
        assert_eq!(time_left(ms(1000), Some(ms(5000)), None), ms(1000));
        assert_eq!(time_left(ms(1000), Some(ms(300)), Some(ms(200))), ms(190));
        assert_eq!(time_left(ms(1000), Some(ms(100)), Some(ms(200))), ms(100));
    }

    #[test]
    fn an_inbound_call_with_no_more_than_the_margin_leaves_nothing() {
        assert_eq!(time_left(ms(1000), None, Some(ms(10))), ms(0));
        assert_eq!(time_left(ms(1000), None, Some(ms(0))), ms(0));
    }
}
