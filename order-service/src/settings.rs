//! The settings of this service.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args};
use service_kit::{
    ServeSettings, SettingError,
    database::DatabaseUrl,
    settings::{AdminPort, duration, number, on_off, shown},
    tls::{ClientFiles, pair},
};
use tonic::transport::Uri;

/// Everything that can be set.
///
/// # Defaults
///
/// The user service at localhost:50051, the client's own defaults, orders in
/// memory, any free ports on the loopback address, and none for `status` (the
/// program has ports and a file of its own).
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Where to listen.
    #[command(flatten)]
    pub serve: ServeSettings,

    /// Where the orders are: sqlite:PATH, which is made when it is not there, or
    /// postgres://user@host/database, for more than one order service.
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite:data/order-service.db"
    )]
    pub database_url: DatabaseUrl,

    /// The user service: host:port, http://host:port, or https://host:port with
    /// USER_SERVICE_TLS_CA.
    #[arg(
        long,
        env = "USER_SERVICE_URL",
        value_name = "URL",
        default_value = Self::default().user_service_url,
        value_parser = url
    )]
    pub user_service_url: String,

    /// How the user service is known, and what it is shown.
    #[command(flatten)]
    pub user_service_tls: UserServiceTls,

    /// Port that `status` asks, on 127.0.0.1 whatever HOST is; off for none.
    #[arg(
        long,
        env = "ADMIN_PORT",
        value_name = "PORT|off",
        default_value = "9152"
    )]
    pub admin_port: AdminPort,

    /// How the user service is asked.
    #[command(flatten)]
    pub resilience: ResilienceSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            serve: ServeSettings::default(),
            database_url: DatabaseUrl::memory(),
            user_service_url: "localhost:50051".to_owned(),
            user_service_tls: UserServiceTls::default(),
            admin_port: AdminPort::Off,
            resilience: ResilienceSettings::default(),
        }
    }
}

/// How the user service is known, and what it is shown. Without an authority
/// the connection to it is plain text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct UserServiceTls {
    /// Authorities of the user service, in PEM; with it, the connection is TLS.
    #[arg(
        id = "user_service_tls_ca",
        long = "user-service-tls-ca",
        env = "USER_SERVICE_TLS_CA",
        value_name = "FILE"
    )]
    pub ca: Option<PathBuf>,

    /// Certificate to show to the user service, in PEM, if it asks.
    #[arg(
        id = "user_service_tls_cert",
        long = "user-service-tls-cert",
        env = "USER_SERVICE_TLS_CERT",
        value_name = "FILE"
    )]
    pub cert: Option<PathBuf>,

    /// The key of that certificate, in PEM.
    #[arg(
        id = "user_service_tls_key",
        long = "user-service-tls-key",
        env = "USER_SERVICE_TLS_KEY",
        value_name = "FILE"
    )]
    pub key: Option<PathBuf>,

    /// The name in the user service's certificate, when it is not that in its
    /// URL.
    #[arg(
        id = "user_service_tls_name",
        long = "user-service-tls-name",
        env = "USER_SERVICE_TLS_NAME",
        value_name = "NAME"
    )]
    pub name: Option<String>,
}

impl UserServiceTls {
    const CA: &str = "USER_SERVICE_TLS_CA";
    const CERT: &str = "USER_SERVICE_TLS_CERT";
    const KEY: &str = "USER_SERVICE_TLS_KEY";
    const NAME: &str = "USER_SERVICE_TLS_NAME";

    /// What a connection to `url` needs; nothing, when it is plain text.
    ///
    /// # Errors
    /// Half a setting, or one that `url` contradicts.
    pub(crate) fn files(&self, url: &str) -> Result<Option<ClientFiles>, SettingError> {
        let shown = |path: &PathBuf| path.display().to_string();
        let Some(ca) = &self.ca else {
            let more = [(Self::CERT, &self.cert), (Self::KEY, &self.key)];
            let more = more.map(|(variable, path)| Some((variable, shown(path.as_ref()?))));
            let name = self.name.clone().map(|name| (Self::NAME, name));
            let secure = url.starts_with("https://");
            let url = secure.then(|| ("USER_SERVICE_URL", url.to_owned()));
            return match more.into_iter().chain([name, url]).flatten().next() {
                Some((variable, value)) => Err(SettingError::needs(variable, value, Self::CA)),
                None => Ok(None),
            };
        };
        if url.starts_with("http://") {
            let rule = "contradicts USER_SERVICE_TLS_CA: must be host:port or https://host:port";
            return Err(SettingError::new("USER_SERVICE_URL", url, rule));
        }
        Ok(Some(ClientFiles {
            ca: (Self::CA, ca.clone()),
            identity: pair((Self::CERT, &self.cert), (Self::KEY, &self.key))?,
            name: self.name.clone().map(|name| (Self::NAME, name)),
        }))
    }
}

/// How the user service is asked. The defaults are those of the client, and so
/// are the rules between settings.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "How the user service is asked")]
pub struct ResilienceSettings {
    /// on, or off for tonic's plain client, which waits for ever: for comparison.
    #[arg(
        id = "resilience",
        long = "resilience",
        env = "RESILIENCE",
        value_name = "ON|OFF",
        action = ArgAction::Set,
        default_value = "on",
        value_parser = on_off
    )]
    pub enabled: bool,

    /// Time for a call, with all its attempts and waits.
    #[arg(
        long = "resilience-deadline",
        env = "RESILIENCE_DEADLINE",
        value_name = "TIME",
        default_value = shown(Self::default().deadline),
        value_parser = duration
    )]
    pub deadline: Duration,

    /// Time for one attempt.
    #[arg(
        long = "resilience-attempt-timeout",
        env = "RESILIENCE_ATTEMPT_TIMEOUT",
        value_name = "TIME",
        default_value = shown(Self::default().attempt_timeout),
        value_parser = duration
    )]
    pub attempt_timeout: Duration,

    /// Attempts of a call, the first included: 1 to 5.
    #[arg(
        long = "resilience-max-attempts",
        env = "RESILIENCE_MAX_ATTEMPTS",
        value_name = "N",
        default_value_t = Self::default().max_attempts,
        value_parser = number(1..=5_u32)
    )]
    pub max_attempts: u32,

    /// The wait before the first retry, at most; it doubles from there.
    #[arg(
        long = "resilience-backoff-initial",
        env = "RESILIENCE_BACKOFF_INITIAL",
        value_name = "TIME",
        default_value = shown(Self::default().backoff_initial),
        value_parser = duration
    )]
    pub backoff_initial: Duration,

    /// The wait before any retry, at most.
    #[arg(
        long = "resilience-backoff-max",
        env = "RESILIENCE_BACKOFF_MAX",
        value_name = "TIME",
        default_value = shown(Self::default().backoff_max),
        value_parser = duration
    )]
    pub backoff_max: Duration,

    /// Retries that all calls together may make before successes pay for more.
    #[arg(
        long = "resilience-budget-capacity",
        env = "RESILIENCE_BUDGET_CAPACITY",
        value_name = "N",
        default_value_t = Self::default().budget_capacity,
        value_parser = number(0..=1000_u32)
    )]
    pub budget_capacity: u32,

    /// Retries that one success pays for: 0 to 1.
    #[arg(
        long = "resilience-budget-deposit",
        env = "RESILIENCE_BUDGET_DEPOSIT",
        value_name = "SHARE",
        default_value_t = Self::default().budget_deposit,
        value_parser = number(0.0..=1.0_f64)
    )]
    pub budget_deposit: f64,

    /// Attempts in flight at once.
    #[arg(
        long = "resilience-concurrency-limit",
        env = "RESILIENCE_CONCURRENCY_LIMIT",
        value_name = "N",
        default_value_t = Self::default().concurrency_limit,
        value_parser = number(1..=1_000_000_usize)
    )]
    pub concurrency_limit: usize,

    /// Attempts that may wait for others to end.
    #[arg(
        long = "resilience-queue-limit",
        env = "RESILIENCE_QUEUE_LIMIT",
        value_name = "N",
        default_value_t = Self::default().queue_limit,
        value_parser = number(0..=1_000_000_usize)
    )]
    pub queue_limit: usize,

    /// How long they may wait.
    #[arg(
        long = "resilience-queue-timeout",
        env = "RESILIENCE_QUEUE_TIMEOUT",
        value_name = "TIME",
        default_value = shown(Self::default().queue_timeout),
        value_parser = duration
    )]
    pub queue_timeout: Duration,

    /// The circuit opens when it is sure that at least this share of attempts
    /// fails: more than 0, at most 0.99.
    #[arg(
        long = "resilience-breaker-failure-ratio",
        env = "RESILIENCE_BREAKER_FAILURE_RATIO",
        value_name = "SHARE",
        default_value_t = Self::default().breaker_failure_ratio,
        value_parser = number(0.0..=0.99_f64)
    )]
    pub breaker_failure_ratio: f64,

    /// How far back it looks.
    #[arg(
        long = "resilience-breaker-window",
        env = "RESILIENCE_BREAKER_WINDOW",
        value_name = "TIME",
        default_value = shown(Self::default().breaker_window),
        value_parser = duration
    )]
    pub breaker_window: Duration,

    /// How long it stays open at first.
    #[arg(
        long = "resilience-breaker-open-initial",
        env = "RESILIENCE_BREAKER_OPEN_INITIAL",
        value_name = "TIME",
        default_value = shown(Self::default().breaker_open_initial),
        value_parser = duration
    )]
    pub breaker_open_initial: Duration,

    /// How long it stays open at most, while the user service stays down.
    #[arg(
        long = "resilience-breaker-open-max",
        env = "RESILIENCE_BREAKER_OPEN_MAX",
        value_name = "TIME",
        default_value = shown(Self::default().breaker_open_max),
        value_parser = duration
    )]
    pub breaker_open_max: Duration,

    /// Probes that a half-open circuit lets through.
    #[arg(
        long = "resilience-breaker-probes",
        env = "RESILIENCE_BREAKER_PROBES",
        value_name = "N",
        default_value_t = Self::default().breaker_probes,
        value_parser = number(1..=1000_u32)
    )]
    pub breaker_probes: u32,

    /// Time for a connection to be made.
    #[arg(
        long = "resilience-connect-timeout",
        env = "RESILIENCE_CONNECT_TIMEOUT",
        value_name = "TIME",
        default_value = shown(Self::default().connect_timeout),
        value_parser = duration
    )]
    pub connect_timeout: Duration,
}

/// `host:port`, `http://host:port` or `https://host:port`, and nothing more: no
/// user name that the log would show, no path that gRPC has no use for.
fn url(text: &str) -> Result<String, &'static str> {
    let refused = "must be host:port, http://host:port or https://host:port, such as \
                   user-service:50051";
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = full.parse().map_err(|_| refused)?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.port_u16().is_some_and(|port| port > 0)
        && uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'))
        && matches!(
            uri.path_and_query().map_or("/", |path| path.as_str()),
            "" | "/"
        );
    if plain {
        Ok(text.to_owned())
    } else {
        Err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_service_is_named_by_host_and_port() {
        for good in [
            "user-service:50051",
            "http://user-service:50051",
            "http://user-service:50051/",
            "127.0.0.1:1",
            "[::1]:50051",
            "https://user-service:50051",
        ] {
            assert_eq!(url(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "user-service",
            ":50051",
            "host:0",
            "host:99999",
            "host:port",
            "ftp://host:1",
            "http://me:secret@host:1",
            "http://host:1/path",
            "host:1?query",
            "a b:1",
        ] {
            assert!(url(bad).is_err(), "{bad:?}");
        }
    }
}
