//! To retry, or not to: a pure decision.

use std::time::Duration;

use tonic::Status;

use super::{pushback::Pushback, replay::Why};
use crate::classify::{RetryRule, is_out_of_time};

/// What is known when an attempt has failed.
#[derive(Debug)]
pub(crate) struct Failed<'a> {
    /// How.
    pub(crate) status: &'a Status,
    /// What that means.
    pub(crate) rule: RetryRule,
    /// The attempts so far, transparent ones not counted, this one included.
    pub(crate) attempts: u32,
    /// The attempts that are allowed.
    pub(crate) max_attempts: u32,
    /// Whether the call has had its transparent retry.
    pub(crate) transparent_used: bool,
    /// Whether the method may be repeated.
    pub(crate) idempotent: bool,
    /// Whether the caller has been given a part of the response.
    pub(crate) committed: bool,
    /// Why the request cannot be sent again, if it cannot.
    pub(crate) once: Option<Why>,
    /// What is left of the call.
    pub(crate) remaining: Option<Duration>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The upstream cannot have seen it: again, at once, for nothing.
    Transparent,
    /// Again, after `delay`, if the budget pays.
    Retry {
        delay: Duration,
        /// Whether the upstream named the delay.
        pushback: bool,
    },
    /// Not again.
    Stop(StopReason),
}

/// Why a failed attempt was not made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// It would not help: the status says so.
    NotRetryable,
    /// The upstream may have acted on it, and the method is not declared safe
    /// to repeat.
    NotIdempotent,
    /// All attempts are used up.
    Attempts,
    /// The retry budget is empty.
    Budget,
    /// The deadline has passed, or the wait would end after it.
    Deadline,
    /// The upstream asked not to be called again.
    Pushback,
    /// The caller has been given a part of the response, or streams its request.
    Committed,
    /// The request is larger than what is kept for replay.
    TooLarge,
    /// The retry was refused: circuit open, no slot.
    Refused,
}

impl StopReason {
    /// Every reason.
    pub(crate) const ALL: &[Self] = &[
        Self::NotRetryable,
        Self::NotIdempotent,
        Self::Attempts,
        Self::Budget,
        Self::Deadline,
        Self::Pushback,
        Self::Committed,
        Self::TooLarge,
        Self::Refused,
    ];

    /// As metrics and messages show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::NotIdempotent => "not_idempotent",
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::Pushback => "pushback",
            Self::Committed => "committed",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }
}

/// Longest wait before a retry of a call that has no deadline: every wait has
/// a bound.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Decides. `backoff` is the delay to wait when the upstream names none.
///
/// The order of the questions decides which reason is told, and that is all:
/// any "no" is a no. The budget is asked last, by the caller of this, so that
/// nothing is paid for a retry that something else forbids.
pub(crate) fn decide(failed: &Failed<'_>, backoff: impl FnOnce() -> Duration) -> Decision {
    use Decision::{Stop, Transparent};

    let no_time = |delay| match failed.remaining {
        Some(remaining) => delay >= remaining,
        None => delay > WAIT_MAX,
    };
    let rule = failed.rule;
    let pushback = Pushback::of(failed.status);

    if rule == RetryRule::NotProcessed
        && !failed.transparent_used
        && !failed.committed
        && failed.once.is_none()
        // An upstream that says when is not asked at once.
        && pushback.is_none()
    {
        return if no_time(Duration::ZERO) {
            Stop(StopReason::Deadline)
        } else {
            Transparent
        };
    }
    let may = match rule {
        RetryRule::Never if is_out_of_time(failed.status) => Err(StopReason::Deadline),
        RetryRule::Never => Err(StopReason::NotRetryable),
        RetryRule::NotProcessed => Ok(()),
        RetryRule::IdempotentWithPushback if pushback.is_none() => Err(StopReason::NotRetryable),
        RetryRule::Idempotent | RetryRule::IdempotentWithPushback if failed.idempotent => Ok(()),
        RetryRule::Idempotent | RetryRule::IdempotentWithPushback => Err(StopReason::NotIdempotent),
    };
    if let Err(reason) = may {
        return Stop(reason);
    }
    if failed.committed {
        return Stop(StopReason::Committed);
    }
    match failed.once {
        Some(Why::Streaming) => return Stop(StopReason::Committed),
        Some(Why::TooLarge) => return Stop(StopReason::TooLarge),
        None => {}
    }
    if failed.attempts >= failed.max_attempts {
        return Stop(StopReason::Attempts);
    }
    let (delay, pushback) = match pushback {
        Some(Pushback::Stop) => return Stop(StopReason::Pushback),
        Some(Pushback::After(delay)) => (delay, true),
        None => (backoff(), false),
    };
    if no_time(delay) {
        return Stop(StopReason::Deadline);
    }
    Decision::Retry { delay, pushback }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tonic::Code;

    use super::*;
    use crate::{
        classify::{Classify as _, GrpcClassifier},
        edge::{Delivery, TransportError},
    };

    const BACKOFF: Duration = Duration::from_millis(25);

    fn failed(status: &Status) -> Failed<'_> {
        Failed {
            status,
            rule: GrpcClassifier.retry(status),
            attempts: 1,
            max_attempts: 3,
            transparent_used: false,
            idempotent: true,
            committed: false,
            once: None,
            remaining: Some(Duration::from_secs(1)),
        }
    }

    fn decided(failed: &Failed<'_>) -> Decision {
        decide(failed, || BACKOFF)
    }

    fn not_processed() -> Status {
        let mut status = Status::unavailable("");
        status.set_source(Arc::new(TransportError::for_test(Delivery::NotProcessed)));
        status
    }

    fn with_pushback(code: Code, value: &str) -> Status {
        let mut status = Status::new(code, "");
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", value.parse().unwrap());
        status
    }

    #[test]
    fn what_was_not_processed_waits_when_the_upstream_says_when() {
        let mut status = Status::resource_exhausted("shed");
        let pushback = |text: &'static str| text.parse().unwrap();
        for (text, decision) in [
            ("-1", Decision::Stop(StopReason::Pushback)),
            (
                "40",
                Decision::Retry {
                    delay: Duration::from_millis(40),
                    pushback: true,
                },
            ),
        ] {
            status
                .metadata_mut()
                .insert("grpc-retry-pushback-ms", pushback(text));
            let failed = Failed {
                rule: RetryRule::NotProcessed,
                ..failed(&status)
            };
            assert_eq!(decide(&failed, || BACKOFF), decision, "{text}");
        }
    }

    #[test]
    fn unavailable_is_retried_after_the_backoff() {
        let status = Status::unavailable("");
        assert_eq!(
            decided(&failed(&status)),
            Decision::Retry {
                delay: BACKOFF,
                pushback: false
            }
        );
    }

    #[test]
    fn each_no_has_its_reason() {
        use StopReason::*;
        let unavailable = Status::unavailable("");
        let stopped = |failed: Failed<'_>| match decided(&failed) {
            Decision::Stop(reason) => reason,
            other => panic!("{other:?}"),
        };

        assert_eq!(stopped(failed(&Status::not_found(""))), NotRetryable);
        assert_eq!(
            stopped(failed(&Status::resource_exhausted(""))),
            NotRetryable
        );
        assert_eq!(
            stopped(Failed {
                idempotent: false,
                ..failed(&unavailable)
            }),
            NotIdempotent
        );
        assert_eq!(
            stopped(Failed {
                attempts: 3,
                ..failed(&unavailable)
            }),
            Attempts
        );
        assert_eq!(
            stopped(Failed {
                remaining: Some(BACKOFF),
                ..failed(&unavailable)
            }),
            Deadline
        );
        assert_eq!(
            stopped(failed(&with_pushback(Code::Unavailable, "-1"))),
            Pushback
        );
        assert_eq!(
            stopped(Failed {
                committed: true,
                ..failed(&unavailable)
            }),
            Committed
        );
        assert_eq!(
            stopped(Failed {
                once: Some(Why::Streaming),
                ..failed(&unavailable)
            }),
            Committed
        );
        assert_eq!(
            stopped(Failed {
                once: Some(Why::TooLarge),
                ..failed(&unavailable)
            }),
            TooLarge
        );
    }

    #[test]
    fn a_pushback_names_the_delay_and_makes_resource_exhausted_retryable() {
        let delay = Duration::from_millis(123);
        for code in [Code::Unavailable, Code::ResourceExhausted] {
            assert_eq!(
                decided(&failed(&with_pushback(code, "123"))),
                Decision::Retry {
                    delay,
                    pushback: true
                }
            );
        }
        let internal = with_pushback(Code::Internal, "10");
        assert_eq!(
            decided(&failed(&internal)),
            Decision::Stop(StopReason::NotRetryable)
        );
    }

    #[test]
    fn a_pushback_past_the_deadline_is_a_no() {
        let status = with_pushback(Code::Unavailable, "10000");
        assert_eq!(
            decided(&failed(&status)),
            Decision::Stop(StopReason::Deadline)
        );
    }

    #[test]
    fn a_call_without_a_deadline_waits_a_minute_and_no_longer() {
        let decided = |pushback| {
            let status = with_pushback(Code::Unavailable, pushback);
            decided(&Failed {
                remaining: None,
                ..failed(&status)
            })
        };
        assert!(matches!(decided("60000"), Decision::Retry { .. }));
        assert_eq!(decided("60001"), Decision::Stop(StopReason::Deadline));
    }

    #[test]
    fn what_was_not_processed_is_sent_again_at_once_whatever_the_method_and_once_only() {
        let status = not_processed();
        let first = Failed {
            idempotent: false,
            attempts: 3,
            ..failed(&status)
        };
        assert_eq!(decided(&first), Decision::Transparent);

        let second = Failed {
            idempotent: false,
            transparent_used: true,
            ..failed(&status)
        };
        assert_eq!(
            decided(&second),
            Decision::Retry {
                delay: BACKOFF,
                pushback: false
            }
        );
    }

    #[test]
    fn nothing_is_sent_again_without_time() {
        let status = not_processed();
        let late = Failed {
            remaining: Some(Duration::ZERO),
            ..failed(&status)
        };
        assert_eq!(decided(&late), Decision::Stop(StopReason::Deadline));
    }

    proptest! {
        /// gRFC A6, case R11.
        #[test]
        fn r11_no_retry_breaks_a_rule(
            code in 1..=16,
            attempts in 1_u32..8,
            max_attempts in 1_u32..=5,
            transparent_used: bool,
            idempotent: bool,
            committed: bool,
            whole: bool,
            remaining_ms in proptest::option::of(0_u64..2000),
            backoff_ms in 0_u64..500,
            pushback in proptest::option::of(-5_i64..3000),
            unprocessed: bool,
        ) {
            let mut status = match pushback {
                Some(value) => with_pushback(Code::from_i32(code), &value.to_string()),
                None => Status::new(Code::from_i32(code), ""),
            };
            if unprocessed {
                status.set_source(Arc::new(TransportError::for_test(Delivery::NotSent)));
            }
            let remaining = remaining_ms.map(Duration::from_millis);
            let failed = Failed {
                status: &status,
                rule: GrpcClassifier.retry(&status),
                attempts,
                max_attempts,
                transparent_used,
                idempotent,
                committed,
                once: (!whole).then_some(Why::Streaming),
                remaining,
            };
            match decide(&failed, || Duration::from_millis(backoff_ms)) {
                Decision::Stop(_) => {}
                Decision::Transparent => {
                    prop_assert!(unprocessed && !transparent_used && !committed && whole);
                    prop_assert!(remaining.is_none_or(|left| !left.is_zero()));
                }
                Decision::Retry { delay, pushback: named } => {
                    prop_assert!(!committed && whole);
                    prop_assert!(attempts < max_attempts);
                    prop_assert!(idempotent || unprocessed);
                    prop_assert!(pushback.is_none_or(|value| value >= 0));
                    prop_assert_eq!(named, pushback.is_some());
                    prop_assert!(delay < remaining.unwrap_or(Duration::MAX));
                    if !named {
                        prop_assert_eq!(delay, Duration::from_millis(backoff_ms));
                    }
                }
            }
        }
    }
}
