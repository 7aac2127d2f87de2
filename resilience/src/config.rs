//! What can be set, in one place, and the rules that settings must keep.

use std::{borrow::Cow, collections::BTreeMap, error::Error, fmt, time::Duration};

use crate::{
    breaker::BreakerConfig,
    limit::LimitConfig,
    method::MethodSet,
    method_config::{MethodConfig, MethodPolicy},
    policies::Policies,
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
/// | `methods`, `idempotent`, `streaming` | none | only the .proto knows |
/// | `overrides` | none | |
/// | `retry`, `budget`, `limit`, `breaker`, `policies` | see there | |
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
    /// The methods that answer with a stream. The head of such a response is
    /// passed on at once, and the attempt timeout, and a probe of the breaker,
    /// end at its first message. The deadline is that of the whole stream.
    pub streaming: MethodSet,
    /// What differs for single methods, by `package.Service/Method`.
    pub overrides: BTreeMap<String, MethodConfig>,
    /// How often, and after which delay, an attempt is made again.
    pub retry: RetryConfig,
    /// How many retries all calls together may make.
    pub budget: BudgetConfig,
    /// How many attempts may be in flight, and wait to be.
    pub limit: LimitConfig,
    /// When to stop calling an upstream, and when to try again.
    pub breaker: BreakerConfig,
    /// Code of your own, in place of the built-in.
    pub policies: Policies,
}

impl Default for ResilienceConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(1),
            attempt_timeout: Duration::from_millis(250),
            methods: MethodSet::default(),
            idempotent: MethodSet::default(),
            streaming: MethodSet::default(),
            overrides: BTreeMap::new(),
            retry: RetryConfig::default(),
            budget: BudgetConfig::default(),
            limit: LimitConfig::default(),
            breaker: BreakerConfig::default(),
            policies: Policies::default(),
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
        self.breaker.validate()?;
        for name in self.named_methods() {
            require(
                is_method(name),
                "methods, idempotent, streaming and overrides",
                "named package.Service/Method",
                format_args!("{name:?}"),
            )?;
        }
        for (name, config) in &self.overrides {
            self.method_policy(name).validate(name)?;
            if let Some(breaker) = &config.breaker {
                breaker
                    .validate()
                    .map_err(|error| error.of_override(name))?;
            }
        }
        Ok(())
    }

    /// Every method that is named somewhere, once.
    pub(crate) fn named_methods(&self) -> impl Iterator<Item = &str> {
        let all = self
            .methods
            .iter()
            .chain(self.idempotent.iter())
            .chain(self.streaming.iter())
            .chain(self.overrides.keys().map(String::as_str));
        let mut seen = Vec::new();
        for name in all {
            if !seen.contains(&name) {
                seen.push(name);
            }
        }
        seen.into_iter()
    }

    /// What a method is allowed that nothing names.
    pub(crate) fn base_policy(&self) -> MethodPolicy {
        MethodPolicy {
            deadline: Some(self.deadline),
            attempt_timeout: Some(self.attempt_timeout),
            idempotent: false,
            streaming: false,
            max_attempts: self.retry.max_attempts,
            commit: self.retry.commit,
            limited: true,
        }
    }

    /// The longest that a probe of any method may take.
    pub(crate) fn longest_patience(&self) -> Option<Duration> {
        self.named_methods()
            .filter_map(|name| self.method_policy(name).patience())
            .chain([self.deadline])
            .max()
    }

    /// What the method called `name` is allowed.
    pub(crate) fn method_policy(&self, name: &str) -> MethodPolicy {
        let policy = MethodPolicy {
            idempotent: self.idempotent.contains(name),
            streaming: self.streaming.contains(name),
            ..self.base_policy()
        };
        let nothing = MethodConfig::default();
        policy.overridden(self.overrides.get(name).unwrap_or(&nothing))
    }
}

/// A setting that breaks a rule; found at start-up, before the first call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: Cow<'static, str>,
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
            field: field.into(),
            rule: rule.into(),
            value: value.to_string(),
        }
    }

    /// The same, of the settings of one method.
    pub(crate) fn of_override(self, method: &str) -> Self {
        Self {
            field: format!("overrides.{}", self.field).into(),
            value: format!("{} for {method}", self.value),
            ..self
        }
    }

    /// The field, as a path from [`ResilienceConfig`] or
    /// [`ConnectConfig`](crate::ConnectConfig): `breaker.window`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
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

/// Whether `name` is `package.Service/Method`.
fn is_method(name: &str) -> bool {
    name.split_once('/').is_some_and(|(service, method)| {
        !service.is_empty() && !method.is_empty() && !method.contains('/')
    })
}

/// Longest time that a setting may hold. Far beyond sense, and near enough
/// that adding it to a clock cannot overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
    fn a_method_is_named_with_its_service() {
        for name in [
            "GetUser",
            "/GetUser",
            "user.UserService/",
            "/user.UserService/GetUser",
        ] {
            let error = ResilienceConfig {
                idempotent: [name].into(),
                ..ResilienceConfig::default()
            }
            .validate()
            .unwrap_err();
            assert_eq!(error.rule(), "named package.Service/Method", "{name}");
        }
    }

    #[test]
    fn a_setting_of_one_method_is_named_with_it() {
        let own = MethodConfig {
            breaker: Some(BreakerConfig {
                probes: 0,
                ..BreakerConfig::default()
            }),
            ..MethodConfig::default()
        };
        let error = ResilienceConfig {
            overrides: [("feed.Feed/Report".to_owned(), own)].into(),
            ..ResilienceConfig::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "overrides.breaker.probes must be 1 to 1000, but is 0 for feed.Feed/Report"
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
