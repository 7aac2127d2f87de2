//! Asks the user service. The file to read for how to use `resilience`; of the
//! others only `status/` knows it, to show how it is doing.
//!
//! A call that fails is worth more than its code: was it refused here, so that
//! the user service never saw it, did time run out, or did the user service
//! fail? The caller is told which, and it is counted.

use std::{fmt, time::Duration};

use hyper_util::client::legacy::connect::HttpConnector;
use proto::user::{
    self, ValidateUserRequest, ValidateUserResponse, user_service_client::UserServiceClient,
};
use resilience::{
    BackoffConfig, BreakerConfig, BudgetConfig, ConfigError, ConnectConfig, Deadline, LimitConfig,
    Rejection, Resilience, ResilienceConfig, ResilienceLayer, RetryConfig, RetryStopped, Scope,
    StopReason, TimedOut,
};
use service_kit::{
    SettingError, code,
    log::Excerpt,
    tls::{ClientFiles, SecureConnector},
    trace::Traced,
};
use tokio::time::Instant;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use tower::Layer as _;

use crate::{
    limits::name_to_keep,
    settings::{ResilienceSettings, Settings},
};

/// The user service, by the name that metrics and messages use.
const UPSTREAM: &str = "user-service";

/// A client of the user service. Clones share its channel, its budget, its
/// limit and its breaker.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // there is one in a process
pub(crate) enum UserClient {
    /// The resilient one, and what can be watched of it.
    Resilient(UserServiceClient<Resilience<Traced<Channel>>>, Watched),
    /// tonic's own, for comparison: it waits as long as its caller does.
    Plain(UserServiceClient<Traced<Channel>>),
}

/// What can be watched of the resilient client: its layer, and what that was
/// made with.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) upstream: &'static str,
    pub(crate) layer: ResilienceLayer,
    pub(crate) budget: BudgetConfig,
    pub(crate) limit: LimitConfig,
}

/// What the user service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The user may order.
    Valid {
        /// The user's name, as it can be kept.
        user_name: String,
    },
    /// The user may not.
    Invalid {
        /// Why, for people.
        reason: String,
    },
}

/// Why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It was not asked: the circuit is open, or the limit is reached.
    Refused(String),
    /// Our time for the question ran out.
    TimedOut(String),
    /// The caller's did.
    CallerTimedOut,
    /// It was asked, and failed.
    Failed(String),
}

impl UserClient {
    /// A client that connects when it first asks.
    ///
    /// # Errors
    /// [`SettingError`], which names the variable at fault.
    pub(crate) fn new(settings: &Settings) -> Result<Self, SettingError> {
        let url = &settings.user_service_url;
        let tls = settings.user_service_tls.files(url)?;
        if !settings.resilience.enabled {
            let channel = plain(url, tls.as_ref())?;
            return Ok(Self::Plain(UserServiceClient::new(Traced::new(channel))));
        }
        let (connect, config) = configs(&settings.resilience);
        let channel = match &tls {
            None => resilience::connect(url, connect),
            Some(files) => {
                let secure = SecureConnector::new(files)?;
                resilience::connect_through(url, connect, |tcp| secure.through(tcp))
            }
        };
        let channel = channel.map_err(setting_error)?;
        let (budget, limit) = (config.budget, config.limit);
        let layer = ResilienceLayer::new(UPSTREAM, config).map_err(setting_error)?;
        // Innermost: each attempt says which span it belongs to.
        let users = UserServiceClient::new(layer.layer(Traced::new(channel)));
        Ok(Self::Resilient(
            users,
            Watched {
                upstream: UPSTREAM,
                layer,
                budget,
                limit,
            },
        ))
    }

    /// Asks whether a user may order, within the time that the caller has.
    pub(crate) async fn validate(
        &self,
        user_id: &str,
        caller: Option<Deadline>,
    ) -> Result<Verdict, NoAnswer> {
        let mut request = Request::new(ValidateUserRequest {
            user_id: user_id.to_owned(),
        });
        let answer = match self {
            Self::Resilient(users, _) => {
                if let Some(deadline) = caller {
                    request.extensions_mut().insert(deadline);
                }
                users.clone().validate_user(request).await
            }
            Self::Plain(users) => users.clone().validate_user(request).await,
        };
        answer
            .map(Response::into_inner)
            .map(Verdict::from)
            .map_err(|status| NoAnswer::of(&status, caller, Instant::now()))
    }

    /// What can be watched of it: nothing, when it is tonic's own.
    pub(crate) fn watched(&self) -> Option<Watched> {
        match self {
            Self::Resilient(_, watched) => Some(watched.clone()),
            Self::Plain(_) => None,
        }
    }

    /// What to do before each scrape.
    pub(crate) fn refresh(&self) -> impl Fn() + Send + Sync + use<> {
        let watched = self.watched();
        move || {
            if let Some(watched) = &watched {
                watched.layer.refresh_metrics();
            }
        }
    }
}

impl From<ValidateUserResponse> for Verdict {
    fn from(reply: ValidateUserResponse) -> Self {
        let ValidateUserResponse {
            valid,
            user_name,
            error_message,
        } = reply;
        match valid {
            true => Self::Valid {
                user_name: name_to_keep(&user_name),
            },
            false if error_message.is_empty() => Self::Invalid {
                reason: "user may not order".to_owned(),
            },
            false => Self::Invalid {
                reason: error_message,
            },
        }
    }
}

impl NoAnswer {
    /// What a failed call means, to a caller who waits until `caller`.
    fn of(status: &Status, caller: Option<Deadline>, now: Instant) -> Self {
        let rejection = Rejection::of(status);
        let stopped = RetryStopped::of(status);
        if status.code() == Code::DeadlineExceeded {
            // The client keeps a margin for the way home; timers count in
            // milliseconds.
            let kept = Deadline::MARGIN + Duration::from_millis(1);
            if caller.is_some_and(|Deadline(at)| now + kept >= at) {
                return Self::CallerTimedOut;
            }
        }
        if rejection == Some(&Rejection::DeadlineExceeded) {
            return Self::TimedOut(format!("refused locally: {}", status.message()));
        }
        if let Some(rejection) = rejection {
            return Self::Refused(format!("refused locally: {rejection}"));
        }
        let message = Excerpt(status.message());
        let stop = stopped.map(|why| format!(" ({why})")).unwrap_or_default();
        let out_of_time = TimedOut::of(status).is_some_and(|late| late.scope == Scope::Call)
            || stopped.is_some_and(|why| why.reason() == StopReason::Deadline);
        if status.code() == Code::DeadlineExceeded && out_of_time {
            return Self::TimedOut(format!("timed out locally: {message}{stop}"));
        }
        Self::Failed(format!(
            "failed remotely: {}: {message}{stop}",
            code::name(status.code())
        ))
    }
}

/// As people read it: `user validation failed: <this>`.
impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::TimedOut(why) | Self::Failed(why) => f.write_str(why),
            Self::CallerTimedOut => f.write_str("the caller's deadline has passed"),
        }
    }
}

/// tonic's client as it comes.
fn plain(url: &str, tls: Option<&ClientFiles>) -> Result<Channel, SettingError> {
    let (_, address) = url.split_once("://").unwrap_or(("http", url));
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| SettingError::new("USER_SERVICE_URL", url, "must be host:port"))?;
    Ok(match tls {
        None => endpoint.connect_lazy(),
        Some(files) => {
            let secure = SecureConnector::new(files)?;
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            endpoint.connect_with_connector_lazy(secure.through(tcp))
        }
    })
}

/// What the library calls its settings, and what our variables call them. A
/// name that begins like another one comes first.
const VARIABLES: [(&str, &str); 17] = [
    ("url", "USER_SERVICE_URL"),
    ("connect.connect_timeout", "RESILIENCE_CONNECT_TIMEOUT"),
    ("attempt_timeout", "RESILIENCE_ATTEMPT_TIMEOUT"),
    ("retry.max_attempts", "RESILIENCE_MAX_ATTEMPTS"),
    ("retry.backoff.initial", "RESILIENCE_BACKOFF_INITIAL"),
    ("retry.backoff.max", "RESILIENCE_BACKOFF_MAX"),
    ("budget.capacity", "RESILIENCE_BUDGET_CAPACITY"),
    ("budget.deposit", "RESILIENCE_BUDGET_DEPOSIT"),
    ("limit.concurrency", "RESILIENCE_CONCURRENCY_LIMIT"),
    ("limit.queue_timeout", "RESILIENCE_QUEUE_TIMEOUT"),
    ("limit.queue", "RESILIENCE_QUEUE_LIMIT"),
    ("breaker.failure_ratio", "RESILIENCE_BREAKER_FAILURE_RATIO"),
    ("breaker.window", "RESILIENCE_BREAKER_WINDOW"),
    ("breaker.open_initial", "RESILIENCE_BREAKER_OPEN_INITIAL"),
    ("breaker.open_max", "RESILIENCE_BREAKER_OPEN_MAX"),
    ("breaker.probes", "RESILIENCE_BREAKER_PROBES"),
    ("deadline", "RESILIENCE_DEADLINE"),
];

/// An error of the library, in terms of our variables.
fn setting_error(error: ConfigError) -> SettingError {
    let field = error.field();
    let variable = VARIABLES.iter().find(|(name, _)| *name == field);
    let rule = VARIABLES
        .iter()
        .fold(error.rule().to_owned(), |rule, (name, variable)| {
            rule.replace(name, variable)
        });
    let name = variable.map_or(field, |(_, variable)| variable);
    SettingError::new(name, error.value(), format!("must be {rule}"))
}

/// The settings, in terms of the library.
fn configs(settings: &ResilienceSettings) -> (ConnectConfig, ResilienceConfig) {
    let connect = ConnectConfig {
        connect_timeout: settings.connect_timeout,
        ..ConnectConfig::default()
    };
    let default = BreakerConfig::default();
    let config = ResilienceConfig {
        deadline: settings.deadline,
        attempt_timeout: settings.attempt_timeout,
        methods: user::METHODS.into(),
        idempotent: user::IDEMPOTENT_METHODS.into(),
        streaming: user::STREAMING_METHODS.into(),
        retry: RetryConfig {
            max_attempts: settings.max_attempts,
            backoff: BackoffConfig {
                initial: settings.backoff_initial,
                max: settings.backoff_max,
            },
            ..RetryConfig::default()
        },
        budget: BudgetConfig {
            capacity: settings.budget_capacity,
            deposit: settings.budget_deposit,
        },
        limit: LimitConfig {
            concurrency: settings.concurrency_limit,
            queue: settings.queue_limit,
            queue_timeout: settings.queue_timeout,
        },
        breaker: BreakerConfig {
            failure_ratio: settings.breaker_failure_ratio,
            window: settings.breaker_window,
            open_initial: settings.breaker_open_initial,
            open_max: settings.breaker_open_max,
            probes: settings.breaker_probes,
            // One probe that succeeds is enough when there is only one.
            probes_to_close: default.probes_to_close.min(settings.breaker_probes),
            // After the deadline of a call, no probe can be heard of.
            probe_timeout: settings.deadline,
            ..default
        },
        ..ResilienceConfig::default()
    };
    (connect, config)
}

impl Default for ResilienceSettings {
    /// The library's own defaults.
    fn default() -> Self {
        let connect = ConnectConfig::default();
        let ResilienceConfig {
            deadline,
            attempt_timeout,
            retry,
            budget,
            limit,
            breaker,
            ..
        } = ResilienceConfig::default();
        Self {
            enabled: true,
            deadline,
            attempt_timeout,
            max_attempts: retry.max_attempts,
            backoff_initial: retry.backoff.initial,
            backoff_max: retry.backoff.max,
            budget_capacity: budget.capacity,
            budget_deposit: budget.deposit,
            concurrency_limit: limit.concurrency,
            queue_limit: limit.queue,
            queue_timeout: limit.queue_timeout,
            breaker_failure_ratio: breaker.failure_ratio,
            breaker_window: breaker.window,
            breaker_open_initial: breaker.open_initial,
            breaker_open_max: breaker.open_max,
            breaker_probes: breaker.probes,
            connect_timeout: connect.connect_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timed_out(scope: Scope) -> Status {
        let cause = TimedOut {
            scope,
            after: SECOND,
        };
        let mut status = Status::deadline_exceeded(cause.to_string());
        status.set_source(Arc::new(cause));
        status
    }

    #[test]
    fn a_user_with_a_strange_name_may_order() {
        let reply = ValidateUserResponse {
            valid: true,
            user_name: format!("A\0{}", "b".repeat(1_000_000)),
            error_message: String::new(),
        };
        let Verdict::Valid { user_name } = Verdict::from(reply) else {
            panic!("valid is valid");
        };
        assert!(user_name.starts_with("A bb") && user_name.len() == 200);
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let now = Instant::now();
        let refused = Rejection::CircuitOpen {
            retry_after: Some(SECOND),
            probing: false,
        }
        .into_status();
        assert_eq!(
            NoAnswer::of(&refused, None, now),
            NoAnswer::Refused("refused locally: circuit open, next probe in 1000 ms".into())
        );
        // The same code and the same words, but from there.
        let failed = Status::unavailable("circuit open,\nnext probe in 1000 ms");
        assert_eq!(
            NoAnswer::of(&failed, None, now),
            NoAnswer::Failed(
                "failed remotely: UNAVAILABLE: circuit open,\\nnext probe in 1000 ms".into()
            )
        );
    }

    #[test]
    fn the_caller_s_deadline_is_told_from_our_own() {
        let now = Instant::now();
        let far = Some(Deadline(now + SECOND));
        let near = Some(Deadline(now + Deadline::MARGIN));
        let too_late = Rejection::DeadlineExceeded.into_status();

        for status in [timed_out(Scope::Call), too_late] {
            assert_eq!(NoAnswer::of(&status, near, now), NoAnswer::CallerTimedOut);
            for caller in [far, None] {
                let no_answer = NoAnswer::of(&status, caller, now);
                assert!(matches!(no_answer, NoAnswer::TimedOut(_)), "{no_answer:?}");
            }
        }
    }

    #[test]
    fn an_attempt_that_timed_out_is_a_failure_of_the_user_service() {
        let now = Instant::now();
        let no_answer = NoAnswer::of(&timed_out(Scope::Attempt), None, now);
        let text = "failed remotely: DEADLINE_EXCEEDED: no complete answer within 1000 ms";
        assert_eq!(no_answer, NoAnswer::Failed(text.into()));
    }

    #[test]
    fn a_rule_between_settings_names_both_variables() {
        let refusal = |settings: ResilienceSettings| {
            let (_, config) = configs(&settings);
            setting_error(config.validate().unwrap_err()).to_string()
        };
        let default = ResilienceSettings::default;

        assert_eq!(
            refusal(ResilienceSettings {
                attempt_timeout: 2 * SECOND,
                ..default()
            }),
            r#"RESILIENCE_ATTEMPT_TIMEOUT="2s" must be less than the RESILIENCE_DEADLINE of 1s"#
        );
        assert_eq!(
            refusal(ResilienceSettings {
                backoff_initial: SECOND,
                ..default()
            }),
            "RESILIENCE_BACKOFF_INITIAL=\"1s\" must be at most RESILIENCE_BACKOFF_MAX, which is 250ms"
        );
        assert_eq!(
            refusal(ResilienceSettings {
                breaker_open_initial: 2 * SECOND,
                ..default()
            }),
            "RESILIENCE_BREAKER_OPEN_INITIAL=\"2s\" must be at most RESILIENCE_BREAKER_OPEN_MAX, which is 1s"
        );
    }

    #[test]
    fn one_probe_is_enough_where_only_one_is_allowed() {
        let settings = ResilienceSettings {
            breaker_probes: 1,
            ..ResilienceSettings::default()
        };
        configs(&settings).1.validate().unwrap();
    }
}
