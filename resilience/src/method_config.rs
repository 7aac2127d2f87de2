//! What may differ for one method from the rest.

use std::time::Duration;

use crate::{
    breaker::BreakerConfig,
    config::{ConfigError, positive, require},
    retry::RetryConfig,
};

/// What differs for one method from the rest.
///
/// ```
/// # use std::time::Duration;
/// # use resilience::{MethodConfig, ResilienceConfig, TimeLimit};
/// let config = ResilienceConfig {
///     overrides: [
///         // An endless stream: no deadline, and no slot for ever.
///         ("feed.Feed/Watch".into(), MethodConfig {
///             deadline: TimeLimit::None,
///             limited: Some(false),
///             streaming: Some(true),
///             ..MethodConfig::default()
///         }),
///         // A report: slow, and known to be.
///         ("feed.Feed/Report".into(), MethodConfig {
///             deadline: TimeLimit::After(Duration::from_secs(30)),
///             attempt_timeout: TimeLimit::After(Duration::from_secs(10)),
///             ..MethodConfig::default()
///         }),
///     ].into(),
///     ..ResilienceConfig::default()
/// };
/// ```
///
/// # Defaults
///
/// Everything as [`ResilienceConfig`](crate::ResilienceConfig) says for all
/// methods.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MethodConfig {
    /// Total time of a call.
    pub deadline: TimeLimit,
    /// Time for one attempt; of a streaming method, to its first message.
    pub attempt_timeout: TimeLimit,
    /// Whether it may be sent again although the upstream may have acted on
    /// the first attempt.
    pub idempotent: Option<bool>,
    /// Whether its response is a stream. Its head is passed on at once then,
    /// unless `commit` says otherwise, and the attempt timeout, and a probe of
    /// the breaker, end at its first message.
    pub streaming: Option<bool>,
    /// Attempts per call, the first included; 1 to 5.
    pub max_attempts: Option<u32>,
    /// When a response is final. A streaming method for which
    /// [`Commit::FirstMessage`] is said here is retried until then, and its
    /// caller waits for the head until then: not for one that itself waits for
    /// the head before it says anything.
    pub commit: Option<Commit>,
    /// Whether it takes a slot of the concurrency limit. A stream that lasts
    /// for hours would hold one for hours.
    pub limited: Option<bool>,
    /// A circuit breaker of its own, apart from that of the upstream: for a
    /// method that fails for reasons of its own.
    pub breaker: Option<BreakerConfig>,
}

/// A time that a method may have of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimeLimit {
    /// As the other methods.
    #[default]
    Inherited,
    /// No limit. Something else must end the call: its caller, or its upstream.
    /// Of a method with neither a deadline nor an attempt timeout nobody knows
    /// how long a probe of the breaker may take: say it yourself
    /// ([`BreakerConfig::probe_timeout`]).
    None,
    /// This long.
    After(Duration),
}

impl TimeLimit {
    fn or(self, inherited: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Inherited => inherited,
            Self::None => None,
            Self::After(limit) => Some(limit),
        }
    }
}

/// When a response is final, so that its attempt can no longer be retried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Commit {
    /// At its first message, or its trailers. A handler that fails after its
    /// head sends its status in trailers, and is retried. A unary caller, who
    /// needs the message anyway, loses no time.
    #[default]
    FirstMessage,
    /// At its head: strictly as gRFC A6 says.
    Headers,
}

/// What one method is allowed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MethodPolicy {
    pub(crate) deadline: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) idempotent: bool,
    pub(crate) streaming: bool,
    pub(crate) max_attempts: u32,
    pub(crate) commit: Commit,
    pub(crate) limited: bool,
}

impl MethodPolicy {
    /// This, where `config` says nothing else.
    pub(crate) fn overridden(&self, config: &MethodConfig) -> Self {
        let streaming = config.streaming.unwrap_or(self.streaming);
        let usual = if streaming {
            Commit::Headers
        } else {
            self.commit
        };
        Self {
            deadline: config.deadline.or(self.deadline),
            attempt_timeout: config.attempt_timeout.or(self.attempt_timeout),
            idempotent: config.idempotent.unwrap_or(self.idempotent),
            streaming,
            max_attempts: config.max_attempts.unwrap_or(self.max_attempts),
            commit: config.commit.unwrap_or(usual),
            limited: config.limited.unwrap_or(self.limited),
        }
    }

    /// How long an attempt may take, when nothing is short.
    pub(crate) fn attempt_time(&self) -> Option<Duration> {
        self.attempt_timeout.or(self.deadline)
    }

    /// How long a probe of the breaker may take; that of a stream is over with
    /// its first message.
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.streaming {
            self.attempt_time()
        } else {
            self.deadline.or(self.attempt_timeout)
        }
    }

    /// Whether a response is held back until its first message.
    pub(crate) fn holds(&self) -> bool {
        self.commit == Commit::FirstMessage
    }

    /// Checks the values of `method`, and against each other.
    pub(crate) fn validate(&self, method: &str) -> Result<(), ConfigError> {
        self.validate_values()
            .map_err(|error| error.of_override(method))
    }

    fn validate_values(&self) -> Result<(), ConfigError> {
        if let Some(deadline) = self.deadline {
            positive("deadline", deadline)?;
        }
        if let Some(attempt_timeout) = self.attempt_timeout {
            positive("attempt_timeout", attempt_timeout)?;
            require(
                self.deadline
                    .is_none_or(|deadline| attempt_timeout < deadline),
                "attempt_timeout",
                format!(
                    "less than the deadline of {:?}",
                    self.deadline.unwrap_or_default()
                ),
                format_args!("{attempt_timeout:?}"),
            )?;
        }
        RetryConfig::validate_attempts("max_attempts", self.max_attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: MethodPolicy = MethodPolicy {
        deadline: Some(Duration::from_secs(1)),
        attempt_timeout: Some(Duration::from_millis(250)),
        idempotent: false,
        streaming: false,
        max_attempts: 3,
        commit: Commit::FirstMessage,
        limited: true,
    };

    #[test]
    fn what_is_not_overridden_is_inherited() {
        assert_eq!(BASE.overridden(&MethodConfig::default()), BASE);
        let policy = BASE.overridden(&MethodConfig {
            deadline: TimeLimit::None,
            idempotent: Some(true),
            ..MethodConfig::default()
        });
        assert_eq!(
            policy,
            MethodPolicy {
                deadline: None,
                idempotent: true,
                ..BASE
            }
        );
    }

    #[test]
    fn a_value_of_its_own_is_refused_with_the_method() {
        let policy = MethodPolicy {
            max_attempts: 9,
            ..BASE
        };
        let error = policy.validate("feed.Feed/Report").unwrap_err();
        assert_eq!(
            error.to_string(),
            "overrides.max_attempts must be 1 to 5, but is 9 for feed.Feed/Report"
        );
    }

    #[test]
    fn a_probe_that_streams_has_the_time_of_its_first_message() {
        let day = Duration::from_secs(24 * 3600);
        let policy = |streaming| MethodPolicy {
            deadline: Some(day),
            streaming,
            ..BASE
        };
        assert_eq!(policy(true).patience(), BASE.attempt_timeout);
        assert_eq!(policy(false).patience(), Some(day));
    }

    #[test]
    fn an_attempt_must_end_before_the_call_for_each_method() {
        let policy = MethodPolicy {
            attempt_timeout: Some(Duration::from_secs(2)),
            ..BASE
        };
        let error = policy.validate("feed.Feed/Report").unwrap_err();
        assert_eq!(
            error.to_string(),
            "overrides.attempt_timeout must be less than the deadline of 1s, \
             but is 2s for feed.Feed/Report"
        );
    }
}
