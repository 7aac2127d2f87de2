//! Which failures are worth another attempt, and which mean that the upstream
//! is unwell. The only file that knows.
//!
//! It looks at statuses as the [`edge`](crate::edge) leaves them, so the code
//! says what happened and not what tonic made of it.
//!
//! | code | retry | breaker |
//! | --- | --- | --- |
//! | OK, and answers: NOT_FOUND, INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE, PERMISSION_DENIED, UNAUTHENTICATED | no | success |
//! | UNAVAILABLE | idempotent methods; any, if provably not processed | failure |
//! | DEADLINE_EXCEEDED of an attempt | idempotent methods | failure; ignored when the attempt began with less than 50 ms left |
//! | DEADLINE_EXCEEDED of the call | no | as above |
//! | RESOURCE_EXHAUSTED | idempotent methods, if the upstream says when | ignored |
//! | UNKNOWN | idempotent methods, if the transport failed | failure only then |
//! | INTERNAL, DATA_LOSS | no | failure |
//! | CANCELLED | idempotent methods, if the transport reset the stream | ignored |
//! | ABORTED, UNIMPLEMENTED | no | ignored |
//! | refused here | no | ignored |
//!
//! ABORTED is not retried because it asks for a retry at a higher level (the
//! whole read-modify-write); RESOURCE_EXHAUSTED is not a failure because the
//! upstream is alive and says so. Answers in a half-open circuit count as
//! success, these too: see [`Outcome::Answered`].

use std::time::Duration;

use tonic::{Code, Status};

use crate::{
    deadline::{Scope, TimedOut},
    edge::{Delivery, TransportError},
    rejection::Rejection,
};

/// An attempt that began with less time left than this says nothing about the
/// upstream when it times out.
const STARVED: Duration = Duration::from_millis(50);

/// What an attempt says about the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// It answered, with something that is neither. Says nothing while the
    /// circuit is closed; as a probe it is a success, for the upstream is there.
    Answered,
    /// Says nothing.
    Ignored,
}

/// Whether a failed attempt may be made again, as far as its status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would not help, or might harm.
    Never,
    /// If the method is idempotent.
    Idempotent,
    /// If the method is idempotent, and the upstream says when.
    IdempotentWithPushback,
    /// Whatever the method: the upstream has not acted on it.
    NotProcessed,
}

/// What `status`, of an attempt that began with `left` of its call's time, says
/// about the upstream.
pub(crate) fn outcome(status: &Status, left: Option<Duration>) -> Outcome {
    if Rejection::of(status).is_some() {
        return Outcome::Ignored;
    }
    let transport = TransportError::of(status).is_some();
    match status.code() {
        _ if is_answer(status) => Outcome::Success,
        Code::DeadlineExceeded if left.is_some_and(|left| left < STARVED) => Outcome::Ignored,
        Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::DataLoss => {
            Outcome::Failure
        }
        Code::Unknown if transport => Outcome::Failure,
        _ if transport => Outcome::Ignored,
        _ => Outcome::Answered,
    }
}

/// What an attempt says that began with `left` of its call's time and was
/// dropped after `took`: nothing, unless the call's time was up. Then nobody
/// left; somebody stopped waiting.
pub(crate) fn dropped(left: Option<Duration>, took: Duration) -> Outcome {
    match left {
        Some(left) if left >= STARVED && took >= left => Outcome::Failure,
        _ => Outcome::Ignored,
    }
}

/// Whether the attempt behind `status` may be made again.
pub(crate) fn retry(status: &Status) -> Retry {
    if Rejection::of(status).is_some() {
        return Retry::Never;
    }
    let transport = TransportError::of(status);
    if transport.is_some_and(|error| error.delivery() != Delivery::Unknown) {
        return Retry::NotProcessed;
    }
    match status.code() {
        Code::Unavailable => Retry::Idempotent,
        Code::DeadlineExceeded => match TimedOut::of(status) {
            Some(TimedOut {
                scope: Scope::Call, ..
            }) => Retry::Never,
            _ => Retry::Idempotent,
        },
        Code::Unknown | Code::Cancelled if transport.is_some() => Retry::Idempotent,
        Code::ResourceExhausted => Retry::IdempotentWithPushback,
        _ => Retry::Never,
    }
}

/// Whether `status` is an answer of the application: the call worked, and the
/// answer is no.
pub(crate) fn is_answer(status: &Status) -> bool {
    let code = matches!(
        status.code(),
        Code::Ok
            | Code::NotFound
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
    );
    // A stream can be reset with a reason that makes such a code.
    code && TransportError::of(status).is_none()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn both(status: &Status) -> (Retry, Outcome) {
        (retry(status), outcome(status, None))
    }

    #[test]
    fn the_table_holds_for_statuses_that_the_upstream_sent() {
        use Code::*;
        for (code, expected) in [
            (NotFound, (Retry::Never, Outcome::Success)),
            (InvalidArgument, (Retry::Never, Outcome::Success)),
            (AlreadyExists, (Retry::Never, Outcome::Success)),
            (FailedPrecondition, (Retry::Never, Outcome::Success)),
            (OutOfRange, (Retry::Never, Outcome::Success)),
            (PermissionDenied, (Retry::Never, Outcome::Success)),
            (Unauthenticated, (Retry::Never, Outcome::Success)),
            (Unavailable, (Retry::Idempotent, Outcome::Failure)),
            (DeadlineExceeded, (Retry::Idempotent, Outcome::Failure)),
            (
                ResourceExhausted,
                (Retry::IdempotentWithPushback, Outcome::Answered),
            ),
            (Unknown, (Retry::Never, Outcome::Answered)),
            (Internal, (Retry::Never, Outcome::Failure)),
            (DataLoss, (Retry::Never, Outcome::Failure)),
            (Cancelled, (Retry::Never, Outcome::Answered)),
            (Aborted, (Retry::Never, Outcome::Answered)),
            (Unimplemented, (Retry::Never, Outcome::Answered)),
        ] {
            assert_eq!(both(&Status::new(code, "")), expected, "{code:?}");
        }
    }

    #[test]
    fn a_refusal_is_never_retried_and_says_nothing() {
        for rejection in [
            Rejection::CircuitOpen {
                retry_after: None,
                probing: false,
            },
            Rejection::LimitReached {
                concurrency: 1,
                queue: 0,
            },
            Rejection::QueueTimeout {
                waited: Duration::ZERO,
            },
            Rejection::DeadlineExceeded,
        ] {
            assert_eq!(
                both(&rejection.into_status()),
                (Retry::Never, Outcome::Ignored)
            );
        }
    }

    #[test]
    fn a_timeout_of_the_call_is_not_retried_and_one_of_an_attempt_is() {
        let timed_out = |scope| {
            TimedOut {
                scope,
                after: Duration::from_millis(250),
            }
            .into_status()
        };
        assert_eq!(
            both(&timed_out(Scope::Attempt)),
            (Retry::Idempotent, Outcome::Failure)
        );
        assert_eq!(
            both(&timed_out(Scope::Call)),
            (Retry::Never, Outcome::Failure)
        );
    }

    #[test]
    fn a_starved_attempt_says_nothing_about_the_upstream() {
        let status = TimedOut {
            scope: Scope::Call,
            after: Duration::from_millis(49),
        }
        .into_status();
        assert_eq!(
            outcome(&status, Some(Duration::from_millis(49))),
            Outcome::Ignored
        );
        assert_eq!(
            outcome(&status, Some(Duration::from_millis(50))),
            Outcome::Failure
        );
    }

    #[test]
    fn a_dropped_attempt_counts_only_when_its_time_was_up() {
        let ms = Duration::from_millis;
        assert_eq!(dropped(None, ms(1000)), Outcome::Ignored);
        assert_eq!(dropped(Some(ms(250)), ms(249)), Outcome::Ignored);
        assert_eq!(dropped(Some(ms(250)), ms(250)), Outcome::Failure);
        assert_eq!(dropped(Some(ms(49)), ms(49)), Outcome::Ignored);
    }

    #[test]
    fn what_a_status_wraps_decides_where_its_code_does_not() {
        let wraps = |code, delivery| {
            let mut status = Status::new(code, "");
            status.set_source(Arc::new(TransportError::for_test(delivery)));
            status
        };
        use Delivery::*;
        assert_eq!(
            both(&wraps(Code::Unknown, Unknown)),
            (Retry::Idempotent, Outcome::Failure)
        );
        assert_eq!(
            both(&wraps(Code::Cancelled, Unknown)),
            (Retry::Idempotent, Outcome::Ignored)
        );
        assert_eq!(
            both(&wraps(Code::Unavailable, NotSent)),
            (Retry::NotProcessed, Outcome::Failure)
        );
        assert_eq!(
            both(&wraps(Code::Unavailable, NotProcessed)),
            (Retry::NotProcessed, Outcome::Failure)
        );
    }
}
