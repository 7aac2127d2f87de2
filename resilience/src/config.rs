//! What can be set, in one place, and the rules that settings must keep.

use std::{error::Error, fmt, time::Duration};

use crate::{
    breaker::BreakerConfig,
    limit::LimitConfig,
    method::MethodSet,
    retry::{BudgetConfig, RetryConfig},
};

/// Everything that [`ResilienceLayer`](crate::ResilienceLayer) can be told.
///
/// ```
/// # use std::time::Duration;
/// # use resilience::{ResilienceConfig, ResilienceLayer};
/// let layer = ResilienceLayer::new("user-service", ResilienceConfig {
///     deadline: Duration::from_millis(500),
///     idempotent: ["user.UserService/GetUser"].into(),
///     ..ResilienceConfig::default()
/// })?;
/// # Ok::<_, resilience::ConfigError>(())
/// ```
///
/// # Defaults
///
/// | field | default | reason |
/// | --- | --- | --- |
/// | `deadline` | 1 s | a missing deadline is the hang that users report |
/// | `attempt_timeout` | 250 ms | about five times the p99 of a call of 10 to 50 ms; leaves room for three attempts |
/// | `methods`, `idempotent` | none | only the .proto knows |
/// | `retry`, `budget`, `limit`, `breaker` | see there | |
#[derive(Debug, Clone, PartialEq)]
pub struct ResilienceConfig {
    /// Total time of a call: queueing, connecting, all attempts, the waits
    /// between them, and the response to its last trailer. An earlier deadline
    /// of the request itself, or of the call that is being served, wins.
    pub deadline: Duration,
    /// Time for one attempt, from being sent to the last trailer. Less than
    /// `deadline`; clipped to what is left of the call.
    pub attempt_timeout: Duration,
    /// The methods that exist, so that their metrics exist from the start, at
    /// zero. A method that is missing here still works and is still measured.
    pub methods: MethodSet,
    /// The methods that may be sent again although the upstream may have acted
    /// on the first attempt.
    pub idempotent: MethodSet,
    /// How often, and after which delay, an attempt is made again.
    pub retry: RetryConfig,
    /// How many retries all calls together may make.
    pub budget: BudgetConfig,
    /// How many attempts may be in flight, and wait to be.
    pub limit: LimitConfig,
    /// When to stop calling an upstream, and when to try again.
    pub breaker: BreakerConfig,
}

impl Default for ResilienceConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(1),
            attempt_timeout: Duration::from_millis(250),
            methods: MethodSet::default(),
            idempotent: MethodSet::default(),
            retry: RetryConfig::default(),
            budget: BudgetConfig::default(),
            limit: LimitConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }
}

impl ResilienceConfig {
    /// Checks every field, and the fields against each other.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        positive("deadline", self.deadline)?;
        positive("attempt_timeout", self.attempt_timeout)?;
        if self.attempt_timeout >= self.deadline {
            return Err(ConfigError::new(
                "attempt_timeout",
                format!("less than the deadline of {:?}", self.deadline),
                format_args!("{:?}", self.attempt_timeout),
            ));
        }
        self.retry.validate()?;
        self.budget.validate()?;
        self.limit.validate()?;
        self.breaker.validate()
    }
}

/// A setting that breaks a rule; found at start-up, before the first call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    rule: String,
    value: String,
}

impl ConfigError {
    pub(crate) fn new(
        field: &'static str,
        rule: impl Into<String>,
        value: impl fmt::Display,
    ) -> Self {
        Self {
            field,
            rule: rule.into(),
            value: value.to_string(),
        }
    }

    /// The field, as a path from [`ResilienceConfig`] or
    /// [`ConnectConfig`](crate::ConnectConfig): `breaker.window`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// What the value must be: `more than zero`.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What it is.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} must be {}, but is {}",
            self.field, self.rule, self.value
        )
    }
}

impl Error for ConfigError {}

/// Longest time that a setting may hold. Far beyond sense, and near enough
/// that adding it to a clock cannot overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Requires a duration of more than zero and at most a year.
pub(crate) fn positive(field: &'static str, value: Duration) -> Result<(), ConfigError> {
    require(
        !value.is_zero(),
        field,
        "more than zero",
        format_args!("{value:?}"),
    )?;
    require(
        value <= LONGEST,
        field,
        "at most a year",
        format_args!("{value:?}"),
    )
}

/// Requires that `first` is not more than `second`.
pub(crate) fn ordered(
    field: &'static str,
    first: Duration,
    second_field: &'static str,
    second: Duration,
) -> Result<(), ConfigError> {
    require(
        first <= second,
        field,
        format!("at most {second_field}, which is {second:?}"),
        format_args!("{first:?}"),
    )
}

/// Requires `rule` of `field`.
pub(crate) fn require(
    holds: bool,
    field: &'static str,
    rule: impl Into<String>,
    value: impl fmt::Display,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::new(field, rule, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        ResilienceConfig::default().validate().unwrap();
    }

    #[test]
    fn an_attempt_must_end_before_the_call() {
        let error = ResilienceConfig {
            deadline: Duration::from_millis(200),
            ..ResilienceConfig::default()
        }
        .validate()
        .unwrap_err();

        assert_eq!(error.field(), "attempt_timeout");
        assert_eq!(
            error.to_string(),
            "attempt_timeout must be less than the deadline of 200ms, but is 250ms"
        );
    }

    #[test]
    fn a_duration_that_no_clock_can_hold_is_refused() {
        let error = ResilienceConfig {
            deadline: Duration::MAX,
            ..ResilienceConfig::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            (error.field(), error.rule()),
            ("deadline", "at most a year")
        );
    }
}
