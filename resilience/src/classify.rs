//! Which failures are worth another attempt, and which mean that the upstream
//! is unwell. The only file that knows; [`Classify`] replaces it.
//!
//! It looks at statuses as the [`edge`](crate::edge) leaves them, so the code
//! says what happened and not what tonic made of it.
//!
//! | code | retry | breaker |
//! | --- | --- | --- |
//! | OK, and answers: NOT_FOUND, INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE, PERMISSION_DENIED, UNAUTHENTICATED | no | success |
//! | UNAVAILABLE | idempotent methods; any, if provably not processed | failure |
//! | DEADLINE_EXCEEDED of an attempt | idempotent methods | failure; ignored when the attempt began with less than 50 ms left, and its method has more |
//! | DEADLINE_EXCEEDED of the call | no | as above; of a stream that has begun, ignored |
//! | RESOURCE_EXHAUSTED | idempotent methods, if the upstream says when | ignored |
//! | UNKNOWN | idempotent methods, if the transport failed | failure only then |
//! | INTERNAL, DATA_LOSS | no | failure |
//! | CANCELLED | idempotent methods, if the transport reset the stream | ignored; so is a streamed request that failed here |
//! | ABORTED, UNIMPLEMENTED | no | ignored |
//! | refused here | no | ignored |
//!
//! ABORTED is not retried because it asks for a retry at a higher level (the
//! whole read-modify-write); RESOURCE_EXHAUSTED is not a failure because the
//! upstream is alive and says so. Answers in a half-open circuit count as
//! success, these too: see [`Outcome::Answered`].

use std::{fmt, time::Duration};

use tonic::{Code, Status};

use crate::{
    deadline::{Scope, TimedOut},
    edge::{Delivery, TransportError},
};

/// An attempt that began with less time left than this, because others had
/// used it up, says nothing about the upstream when it times out.
const STARVED: Duration = Duration::from_millis(50);

/// Says what a failed attempt means.
///
/// The built-in one is [`GrpcClassifier`]; another goes into
/// [`Policies`](crate::Policies). It is asked about failures only, never about
/// what was refused here, and the statuses are as the
/// [edge](crate::layers::EdgeLayer) leaves them: the code says what happened,
/// and a typed cause lies behind what the transport or a timer said
/// ([`TransportError::of`], [`TimedOut::of`]; a status may be wrapped once more,
/// so ask these instead of looking at its source). It may be asked several times
/// about one failure, and should say the same each time.
pub trait Classify: fmt::Debug + Send + Sync {
    /// Whether the attempt may be made again, as far as its status says.
    fn retry(&self, status: &Status) -> RetryRule;

    /// What the attempt says about the health of the upstream.
    /// [`Outcome::Success`] means that the call worked and the answer is no: it
    /// counts as such for the budget, unless it is retried, and as `ok` in
    /// metrics.
    fn outcome(&self, status: &Status) -> Outcome;
}

/// What an attempt says about the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
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
#[non_exhaustive]
pub enum RetryRule {
    /// It would not help, or might harm.
    Never,
    /// If the method is idempotent.
    Idempotent,
    /// If the method is idempotent, and the upstream says when.
    IdempotentWithPushback,
    /// Whatever the method: the upstream has not acted on it. The first retry
    /// of this kind is made at once, and for nothing.
    NotProcessed,
}

/// The rules of gRPC, as the table says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GrpcClassifier;

impl Classify for GrpcClassifier {
    fn retry(&self, status: &Status) -> RetryRule {
        let transport = TransportError::of(status);
        if transport.is_some_and(|error| error.delivery() != Delivery::Unknown) {
            return RetryRule::NotProcessed;
        }
        match status.code() {
            Code::Unavailable => RetryRule::Idempotent,
            Code::DeadlineExceeded => match TimedOut::of(status) {
                Some(TimedOut {
                    scope: Scope::Call, ..
                }) => RetryRule::Never,
                _ => RetryRule::Idempotent,
            },
            Code::Unknown | Code::Cancelled if transport.is_some() => RetryRule::Idempotent,
            Code::ResourceExhausted => RetryRule::IdempotentWithPushback,
            _ => RetryRule::Never,
        }
    }

    fn outcome(&self, status: &Status) -> Outcome {
        let transport = TransportError::of(status).is_some();
        match status.code() {
            Code::Ok
            | Code::NotFound
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
                if !transport =>
            {
                Outcome::Success
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::DataLoss => {
                Outcome::Failure
            }
            Code::Unknown if transport => Outcome::Failure,
            // A stream can be reset with a reason that makes any code.
            _ if transport => Outcome::Ignored,
            _ => Outcome::Answered,
        }
    }
}

/// The time of an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    /// What was left of its call when it began.
    pub(crate) left: Option<Duration>,
    /// What an attempt of its method has when nothing is short.
    pub(crate) full: Option<Duration>,
}

impl Time {
    /// Whether it began with so little that running out of it says nothing
    /// about the upstream. What is always so little is meant to be.
    fn is_starved(self) -> bool {
        self.left
            .is_some_and(|left| left < STARVED && self.full.is_none_or(|full| left < full))
    }
}

/// Whether the deadline of the call is what ended the attempt.
pub(crate) fn is_out_of_time(status: &Status) -> bool {
    TimedOut::of(status).is_some_and(|timed_out| timed_out.scope == Scope::Call)
}

/// `outcome`, that of `status`, unless the attempt was starved of time.
pub(crate) fn unless_starved(outcome: Outcome, status: &Status, time: Time) -> Outcome {
    match status.code() {
        Code::DeadlineExceeded if time.is_starved() => Outcome::Ignored,
        _ => outcome,
    }
}

/// What an attempt says that was dropped after `took`: nothing, unless the
/// call's time was up. Then nobody left; somebody stopped waiting.
pub(crate) fn dropped(time: Time, took: Duration) -> Outcome {
    match time.left {
        Some(left) if took >= left && !time.is_starved() => Outcome::Failure,
        _ => Outcome::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn both(status: &Status) -> (RetryRule, Outcome) {
        (GrpcClassifier.retry(status), GrpcClassifier.outcome(status))
    }

    #[test]
    fn the_table_holds_for_statuses_that_the_upstream_sent() {
        use Code::*;
        for (code, expected) in [
            (NotFound, (RetryRule::Never, Outcome::Success)),
            (InvalidArgument, (RetryRule::Never, Outcome::Success)),
            (AlreadyExists, (RetryRule::Never, Outcome::Success)),
            (FailedPrecondition, (RetryRule::Never, Outcome::Success)),
            (OutOfRange, (RetryRule::Never, Outcome::Success)),
            (PermissionDenied, (RetryRule::Never, Outcome::Success)),
            (Unauthenticated, (RetryRule::Never, Outcome::Success)),
            (Unavailable, (RetryRule::Idempotent, Outcome::Failure)),
            (DeadlineExceeded, (RetryRule::Idempotent, Outcome::Failure)),
            (
                ResourceExhausted,
                (RetryRule::IdempotentWithPushback, Outcome::Answered),
            ),
            (Unknown, (RetryRule::Never, Outcome::Answered)),
            (Internal, (RetryRule::Never, Outcome::Failure)),
            (DataLoss, (RetryRule::Never, Outcome::Failure)),
            (Cancelled, (RetryRule::Never, Outcome::Answered)),
            (Aborted, (RetryRule::Never, Outcome::Answered)),
            (Unimplemented, (RetryRule::Never, Outcome::Answered)),
        ] {
            assert_eq!(both(&Status::new(code, "")), expected, "{code:?}");
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
            (RetryRule::Idempotent, Outcome::Failure)
        );
        assert_eq!(
            both(&timed_out(Scope::Call)),
            (RetryRule::Never, Outcome::Failure)
        );
    }

    #[test]
    fn a_starved_attempt_says_nothing_about_the_upstream() {
        let status = TimedOut {
            scope: Scope::Call,
            after: Duration::from_millis(49),
        }
        .into_status();
        let outcome =
            |left, full| unless_starved(Outcome::Failure, &status, time(Some(left), full));
        assert_eq!(outcome(49, 250), Outcome::Ignored);
        assert_eq!(outcome(50, 250), Outcome::Failure);
        // As much as it ever has.
        assert_eq!(outcome(30, 30), Outcome::Failure);
        assert_eq!(outcome(29, 30), Outcome::Ignored);
    }

    fn time(left: Option<u64>, full: u64) -> Time {
        Time {
            left: left.map(Duration::from_millis),
            full: Some(Duration::from_millis(full)),
        }
    }

    #[test]
    fn a_dropped_attempt_counts_only_when_its_time_was_up() {
        let ms = Duration::from_millis;
        let after = |left, took| dropped(time(left, 250), ms(took));
        assert_eq!(after(None, 1000), Outcome::Ignored);
        assert_eq!(after(Some(250), 249), Outcome::Ignored);
        assert_eq!(after(Some(250), 250), Outcome::Failure);
        assert_eq!(after(Some(49), 49), Outcome::Ignored);
        assert_eq!(dropped(time(Some(30), 30), ms(30)), Outcome::Failure);
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
            (RetryRule::Idempotent, Outcome::Failure)
        );
        assert_eq!(
            both(&wraps(Code::Cancelled, Unknown)),
            (RetryRule::Idempotent, Outcome::Ignored)
        );
        assert_eq!(
            both(&wraps(Code::Unavailable, NotSent)),
            (RetryRule::NotProcessed, Outcome::Failure)
        );
        assert_eq!(
            both(&wraps(Code::Unavailable, NotProcessed)),
            (RetryRule::NotProcessed, Outcome::Failure)
        );
    }
}
