//! Why a call was refused here, without being sent.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::HeaderValue;
use tonic::{Code, Status, metadata::MetadataMap};

use crate::retry::PUSHBACK_HEADER;

/// A call, or an attempt, that was refused here: nothing was sent.
///
/// It travels as the source of a [`Status`]; [`Rejection::of`] finds it there.
/// A rejection is never retried and never counts against the upstream. Its
/// status carries `grpc-retry-pushback-ms: -1` (gRFC A6), so that a caller one
/// hop up does not retry it either.
///
/// ```
/// # use resilience::Rejection;
/// # fn handle(status: tonic::Status) {
/// match Rejection::of(&status) {
///     Some(Rejection::CircuitOpen { .. }) => { /* come back later */ }
///     Some(_) => { /* refused here: the upstream never saw the call */ }
///     None => { /* it failed */ }
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The circuit breaker is open, or half-open with all its probes under way.
    CircuitOpen {
        /// Time until the breaker will let the next probe through. `None` when
        /// that is not known: probes are under way, or someone forced it open.
        retry_after: Option<Duration>,
        /// Whether the breaker is half-open and all places for probes are taken.
        probing: bool,
    },
    /// All slots were taken, and all places in the queue.
    LimitReached {
        /// Attempts that may be in flight at once.
        concurrency: usize,
        /// Attempts that may wait for a slot at once.
        queue: usize,
    },
    /// No slot became free while the attempt waited for one.
    QueueTimeout {
        /// How long it waited.
        waited: Duration,
    },
    /// The deadline had passed before anything was sent.
    DeadlineExceeded,
}

impl Rejection {
    /// The rejection that `status` stands for, or `None` when the call was sent.
    ///
    /// A status that an upstream sent, and the last real failure of a call
    /// whose *retry* was refused, are not rejections: see
    /// [`RetryStopped`](crate::RetryStopped) for the latter.
    #[must_use]
    pub fn of(status: &Status) -> Option<&Self> {
        status.source()?.downcast_ref()
    }

    /// Every reason, as metrics show it.
    pub(crate) const REASONS: [&'static str; 4] =
        ["circuit_open", "limit_reached", "queue_timeout", "deadline"];

    /// Its place among them.
    pub(crate) fn place(&self) -> usize {
        match self {
            Self::CircuitOpen { .. } => 0,
            Self::LimitReached { .. } => 1,
            Self::QueueTimeout { .. } => 2,
            Self::DeadlineExceeded => 3,
        }
    }

    /// As metrics show it: `circuit_open`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        Self::REASONS[self.place()]
    }

    /// The gRPC code that callers see.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::CircuitOpen { .. } => Code::Unavailable,
            Self::LimitReached { .. } | Self::QueueTimeout { .. } => Code::ResourceExhausted,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
        }
    }

    /// The status that callers see, with this as its source.
    #[must_use]
    pub fn into_status(self) -> Status {
        let mut metadata = MetadataMap::new().into_headers();
        metadata.insert(PUSHBACK_HEADER, HeaderValue::from_static("-1"));
        let mut status = Status::with_metadata(
            self.code(),
            self.to_string(),
            MetadataMap::from_headers(metadata),
        );
        status.set_source(Arc::new(self));
        status
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CircuitOpen { probing: true, .. } => {
                f.write_str("circuit open, probe in progress")
            }
            Self::CircuitOpen {
                retry_after: Some(retry_after),
                ..
            } => {
                let millis = retry_after.as_millis();
                write!(f, "circuit open, next probe in {millis} ms")
            }
            Self::CircuitOpen { .. } => f.write_str("circuit forced open"),
            Self::LimitReached { concurrency, queue } => write!(
                f,
                "concurrency limit reached: {concurrency} in flight, {queue} waiting"
            ),
            Self::QueueTimeout { waited } => write!(
                f,
                "concurrency limit reached: no slot within {} ms",
                waited.as_millis()
            ),
            Self::DeadlineExceeded => f.write_str("deadline exceeded before anything was sent"),
        }
    }
}

impl Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_found_in_its_status_and_tells_callers_not_to_retry() {
        let rejection = Rejection::CircuitOpen {
            retry_after: Some(Duration::from_millis(312)),
            probing: false,
        };
        let status = rejection.clone().into_status();

        assert_eq!(Rejection::of(&status), Some(&rejection));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "circuit open, next probe in 312 ms");
        assert_eq!(
            status.metadata().get("grpc-retry-pushback-ms").unwrap(),
            "-1"
        );
    }

    #[test]
    fn a_status_from_the_upstream_is_no_rejection() {
        assert_eq!(Rejection::of(&Status::unavailable("circuit open")), None);
    }
}
