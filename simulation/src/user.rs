//! Settings of a user, from a file: what would they do?
//!
//! The file is TOML, with the names of `resilience::ResilienceConfig`; what it leaves out is as
//! by default. `[traffic]` and `[server]` say what the user's own upstream is like.
//!
//! ```toml
//! attempt_timeout = "100ms"
//!
//! [retry]
//! max_attempts = 2
//!
//! [breaker]
//! open_max = "5s"
//!
//! [traffic]
//! rate = 200
//! ```

use std::{fs, path::Path, time::Duration};

use resilience::ResilienceConfig;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{policies::Policy, script::Script};

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct User {
    /// The client.
    pub config: ResilienceConfig,
    rate: Option<f64>,
    clients: Option<usize>,
    server: Server,
}

impl User {
    /// Reads `file`.
    ///
    /// # Errors
    /// In a line or a few: what is wrong, and where.
    pub fn read(file: &Path) -> Result<Self, String> {
        let wrong = |why: String| format!("{}: {why}", file.display());
        let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let document: Document = toml::from_str(text).map_err(|error| error.to_string())?;
        let Document {
            traffic, server, ..
        } = document;
        let mut config = ResilienceConfig::default();
        document.apply(&mut config);
        config.validate().map_err(|error| error.to_string())?;
        positive("traffic.rate", traffic.rate)?;
        positive("traffic.clients", traffic.clients.map(|it| it as f64))?;
        positive("server.workers", server.workers.map(|it| it as f64))?;
        Ok(Self {
            config,
            rate: traffic.rate,
            clients: traffic.clients,
            server,
        })
    }

    /// The client, to be compared.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::of_config("yours", "the settings of your file", self.config.clone())
    }

    /// `script` with the user's own traffic and server.
    #[must_use]
    pub fn adapt(&self, mut script: Script) -> Script {
        set(&mut script.traffic.rate, self.rate);
        set(&mut script.traffic.clients, self.clients);
        set(&mut script.server.workers, self.server.workers);
        set(&mut script.server.work, time(self.server.work));
        set(
            &mut script.server.work_varies,
            time(self.server.work_varies),
        );
        set(&mut script.server.drops_expired, self.server.drops_expired);
        if self.server.queue.is_some() {
            script.server.queue = self.server.queue;
        }
        script
    }
}

fn positive(field: &str, value: Option<f64>) -> Result<(), String> {
    match value {
        // A run is held in memory, and is over within minutes.
        Some(value) if !(0.001..=100_000.0).contains(&value) => Err(format!(
            "{field} must be more than 0 and at most 100000, but is {value}"
        )),
        _ => Ok(()),
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn time(time: Option<Time>) -> Option<Duration> {
    time.map(|Time(time)| time)
}

/// A time with its unit: `250ms`, `1s`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Time).map_err(|_| {
            D::Error::custom(format!(
                "{text:?} is no time with a unit, such as \"250ms\""
            ))
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    deadline: Option<Time>,
    attempt_timeout: Option<Time>,
    retry: Retry,
    budget: Budget,
    limit: Limit,
    breaker: Breaker,
    traffic: Traffic,
    server: Server,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Retry {
    max_attempts: Option<u32>,
    backoff: Backoff,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Backoff {
    initial: Option<Time>,
    max: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Budget {
    capacity: Option<u32>,
    deposit: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limit {
    concurrency: Option<usize>,
    queue: Option<usize>,
    queue_timeout: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Breaker {
    failure_ratio: Option<f64>,
    window: Option<Time>,
    consecutive_failures: Option<u32>,
    consecutive_at_least: Option<Time>,
    open_initial: Option<Time>,
    open_max: Option<Time>,
    healthy_after: Option<Time>,
    probes: Option<u32>,
    probes_to_close: Option<u32>,
    probe_timeout: Option<Time>,
    slow_after: Option<Time>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Traffic {
    rate: Option<f64>,
    clients: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Server {
    workers: Option<usize>,
    work: Option<Time>,
    work_varies: Option<Time>,
    queue: Option<usize>,
    drops_expired: Option<bool>,
}

impl Document {
    /// Sets what it says.
    fn apply(self, config: &mut ResilienceConfig) {
        set(&mut config.deadline, time(self.deadline));
        set(&mut config.attempt_timeout, time(self.attempt_timeout));

        let (from, to) = (self.retry, &mut config.retry);
        set(&mut to.max_attempts, from.max_attempts);
        set(&mut to.backoff.initial, time(from.backoff.initial));
        set(&mut to.backoff.max, time(from.backoff.max));

        set(&mut config.budget.capacity, self.budget.capacity);
        set(&mut config.budget.deposit, self.budget.deposit);

        let (from, to) = (self.limit, &mut config.limit);
        set(&mut to.concurrency, from.concurrency);
        set(&mut to.queue, from.queue);
        set(&mut to.queue_timeout, time(from.queue_timeout));

        let (from, to) = (self.breaker, &mut config.breaker);
        set(&mut to.failure_ratio, from.failure_ratio);
        set(&mut to.window, time(from.window));
        set(&mut to.consecutive_failures, from.consecutive_failures);
        set(
            &mut to.consecutive_at_least,
            time(from.consecutive_at_least),
        );
        set(&mut to.open_initial, time(from.open_initial));
        set(&mut to.open_max, time(from.open_max));
        set(&mut to.healthy_after, time(from.healthy_after));
        set(&mut to.probes, from.probes);
        set(&mut to.probes_to_close, from.probes_to_close);
        set(&mut to.probe_timeout, time(from.probe_timeout));
        to.slow_after = time(from.slow_after).or(to.slow_after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        let user = User::parse("").unwrap();
        assert_eq!(user.config, ResilienceConfig::default());
        let script = Script::named("outage").unwrap();
        assert_eq!(user.adapt(script.clone()).traffic, script.traffic);
    }

    #[test]
    fn a_file_sets_what_it_names_and_nothing_else() {
        let user = User::parse(
            "attempt_timeout = '100ms'\n\
             retry = { max_attempts = 2, backoff.max = '1s' }\n\
             [breaker]\n slow_after = '80ms'\n\
             [traffic]\n rate = 50\n\
             [server]\n queue = 7\n",
        )
        .unwrap();
        let mut expected = ResilienceConfig {
            attempt_timeout: Duration::from_millis(100),
            ..ResilienceConfig::default()
        };
        expected.retry.max_attempts = 2;
        expected.retry.backoff.max = Duration::from_secs(1);
        expected.breaker.slow_after = Some(Duration::from_millis(80));
        assert_eq!(user.config, expected);

        let script = user.adapt(Script::named("outage").unwrap());
        assert_eq!((script.traffic.rate, script.traffic.clients), (50.0, 10));
        assert_eq!((script.server.queue, script.server.workers), (Some(7), 20));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, parts) in [
            (
                "attempt_timeout = '2s'",
                ["attempt_timeout must be less than", "2s"],
            ),
            (
                "[retry]\nmax_attempts = 9",
                ["retry.max_attempts must be 1 to 5", "9"],
            ),
            (
                "[breaker]\nwindow = '2'",
                ["window = '2'", "no time with a unit"],
            ),
            (
                "deadlines = '1s'",
                ["unknown field `deadlines`", "attempt_timeout"],
            ),
            (
                "[traffic]\nrate = 0",
                ["traffic.rate must be more than 0", "is 0"],
            ),
        ] {
            let error = User::parse(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text}: {error}");
            }
        }
    }
}
