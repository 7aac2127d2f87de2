//! What each setting may hold.
//!
//! A setting is an environment variable (or the flag of the same name), with a
//! default and a parser that says what is allowed. A value that does not parse
//! stops the start: a service that runs with a guess in place of a setting is
//! worse than one that does not run.
//!
//! `command.rs` is where clap's part ends and ours begins.

pub(crate) mod command;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::{Range, RangeInclusive},
    str::FromStr,
    time::Duration,
};

use clap::{ArgAction, Args};

use crate::tls::TlsSettings;

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ServeSettings {
    /// Address to listen on; 0.0.0.0 in a container.
    #[arg(long, env = "HOST", default_value_t = Self::default().host, value_parser = address)]
    pub host: IpAddr,

    /// Port for gRPC; 0 takes any free one.
    #[arg(long, env = "PORT", default_value_t = 0, value_parser = port)]
    pub port: u16,

    /// Port for /metrics, and nothing else; 0 takes any free one.
    #[arg(long, env = "METRICS_PORT", default_value_t = 0, value_parser = port)]
    pub metrics_port: u16,

    /// Calls under way at once; one more is refused, to come back later.
    #[arg(
        long,
        env = "IN_FLIGHT_MAX",
        value_name = "N",
        default_value_t = Self::default().in_flight_max,
        value_parser = number(1..=1_000_000_usize)
    )]
    pub in_flight_max: usize,

    /// How long calls under way have to end after a stop was asked for; what has
    /// not ended then is cut off, and a second later the program is gone.
    #[arg(
        long,
        env = "DRAIN_TIMEOUT",
        value_name = "TIME",
        default_value = shown(Self::default().drain_timeout),
        value_parser = duration
    )]
    pub drain_timeout: Duration,

    /// on lets another process listen on the same ports (SO_REUSEPORT), so that a
    /// new one can be ready before the old one is asked to stop: on or off.
    #[arg(
        long,
        env = "REUSE_PORT",
        value_name = "ON|OFF",
        action = ArgAction::Set,
        default_value = "off",
        value_parser = on_off
    )]
    pub reuse_port: bool,

    /// What gRPC callers see, and who may call.
    #[command(flatten)]
    pub tls: TlsSettings,
}

impl Default for ServeSettings {
    /// Any free ports on the loopback address: what a test wants. A program's
    /// own ports are [`Program::PORTS`](crate::Program::PORTS).
    ///
    /// 1000 calls at once: what 1000 calls/s have under way when each takes a
    /// second, which is all the time that callers give by default.
    ///
    /// 8 s to drain: with a second to cut off, that is within the 10 s that
    /// Docker gives. Nobody else on our ports: two by accident would share calls.
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            metrics_port: 0,
            in_flight_max: 1000,
            drain_timeout: Duration::from_secs(8),
            reuse_port: false,
            tls: TlsSettings::default(),
        }
    }
}

impl ServeSettings {
    /// Refuses one port for two purposes.
    pub(crate) fn validate(&self) -> Result<(), SettingError> {
        if self.port != 0 && self.port == self.metrics_port {
            return Err(SettingError::new(
                "METRICS_PORT",
                self.metrics_port,
                "must be a port other than PORT",
            ));
        }
        self.tls.validate()
    }

    pub(crate) fn grpc(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    pub(crate) fn metrics(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.metrics_port)
    }
}

/// Where the operator's service listens, on the loopback address; `off` for
/// nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdminPort {
    /// Nowhere: what a test wants, and whoever embeds a service.
    #[default]
    Off,
    /// On this port; 0 takes any free one.
    Port(u16),
}

impl FromStr for AdminPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            _ => text
                .parse()
                .map(Self::Port)
                .map_err(|_| "must be off, or a number from 0 to 65535"),
        }
    }
}

/// A setting that cannot be used: which one, what it holds, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={} {refusal}", Shown(value))]
pub struct SettingError {
    variable: String,
    value: String,
    refusal: String,
}

impl SettingError {
    /// The environment variable `variable` holds `value`, and `refusal` goes on
    /// from there: `must be more than zero`.
    pub fn new(
        variable: impl Into<String>,
        value: impl fmt::Display,
        refusal: impl Into<String>,
    ) -> Self {
        Self {
            variable: variable.into(),
            value: masked(&value.to_string()),
            refusal: refusal.into(),
        }
    }

    /// The environment variable `variable` is of no use without `others`.
    pub fn needs(variable: impl Into<String>, value: impl fmt::Display, others: &str) -> Self {
        Self::new(variable, value, format!("needs {others} beside it"))
    }
}

const HIDDEN: &str = "***";

/// A value as anybody may see it: what stands before the `@` of an address, with or
/// without its scheme, and what follows `password=`, are hidden.
pub(crate) fn masked(value: &str) -> String {
    let mut shown = value.to_owned();
    if let Some(user) = user_of(value) {
        shown.replace_range(user, HIDDEN);
    }
    let mut from = 0;
    while let Some(found) = shown[from..].to_ascii_lowercase().find("password") {
        from += found + "password".len();
        let rest = shown[from..].trim_start();
        let Some(secret) = rest.strip_prefix('=').map(str::trim_start) else {
            continue;
        };
        let start = shown.len() - secret.len();
        let end = start + secret_length(secret);
        shown.replace_range(start..end, HIDDEN);
        from = start + HIDDEN.len();
    }
    shown
}

/// Where the user, and the password, of an address stand.
fn user_of(value: &str) -> Option<Range<usize>> {
    // The last one: a password may hold an `@` that nobody has escaped.
    let at = value.rfind('@')?;
    if let Some(scheme) = value.find("://").filter(|scheme| scheme + 3 <= at) {
        return Some(scheme + 3..at);
    }
    let (before, after) = (&value[..at], &value[at + 1..]);
    // `latency=5ms@0.5` has a share where an address has a host.
    let share = after.split(',').next().unwrap_or(after).trim();
    let path = before.starts_with(['/', '.'])
        || (before.strip_prefix("sqlite:")).is_some_and(|path| !path.contains(':'));
    (share.parse::<f64>().is_err() && !path).then_some(0..at)
}

/// How much of `text`, which begins with it, is a password: as far as its quotes,
/// else as the next parameter.
fn secret_length(text: &str) -> usize {
    let Some(quoted) = text.strip_prefix('\'') else {
        let end = text.find(|c: char| c == '&' || c.is_whitespace());
        return end.unwrap_or(text.len());
    };
    let mut escaped = false;
    let end = quoted.find(|c| {
        let ends = c == '\'' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// A value as it can stand in one line: escaped, and not too long.
struct Shown<'a>(&'a str);

const SHOWN_CHARS_MAX: usize = 120;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.0.chars().take(SHOWN_CHARS_MAX).collect();
        let rest = if start.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "{start:?}{rest}")
    }
}

/// Longest time that a setting may hold. Nothing here is meant to take longer, and
/// a time that has no end cannot be added to a clock.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// Parses a duration, which needs its unit (`250ms`), and is an hour at most.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    duration_up_to(TIME_MAX, text)
}

/// Parses a duration that is no longer than `most`.
///
/// # Errors
/// What is allowed.
pub fn duration_up_to(most: Duration, text: &str) -> Result<Duration, String> {
    // humantime takes a bare 0.
    let bare = text.bytes().all(|byte| byte.is_ascii_digit());
    match humantime::parse_duration(text) {
        Ok(time) if !bare && time <= most => Ok(time),
        Ok(_) if !bare => Err(format!("must be at most {}", shown(most))),
        _ => Err("must be a time with its unit, such as 250ms, 2s or 1m".to_owned()),
    }
}

/// A duration as [`duration`] reads it.
#[must_use]
pub fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Parses `on` or `off`.
///
/// # Errors
/// What is allowed.
pub fn on_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off"),
    }
}

/// A parser for numbers of that range.
pub fn number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + fmt::Display + Clone + Send + Sync + 'static,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "must be a number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

fn port(text: &str) -> Result<u16, String> {
    number(0..=u16::MAX)(text)
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse()
        .map_err(|_| "must be an IP address, such as 127.0.0.1 or 0.0.0.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit_and_is_shown_as_it_is_read() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for bad in [
            "",
            "250",
            "0",
            "1.5",
            "-1s",
            "1 parsec",
            "99999999999999999999s",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        for text in ["250ms", "1s", "1m 30s", "1s 500ms", "0s"] {
            assert_eq!(shown(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_time_without_an_end_is_refused() {
        assert_eq!(duration("1h"), Ok(TIME_MAX));
        for endless in ["1h 1ns", "1000y", "18446744073709551615s"] {
            let refused = duration(endless).unwrap_err();
            assert_eq!(refused, "must be at most 1h", "{endless:?}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        assert_eq!(number(1..=5)("5"), Ok(5));
        assert_eq!(
            number(1..=5)("6"),
            Err("must be a number from 1 to 5".to_owned())
        );
        assert_eq!(number(0.0..=1.0)("0.25"), Ok(0.25));
        assert!(number(0.0..=1.0)("NaN").is_err());
        assert!(port("65536").is_err());
    }

    #[test]
    fn an_admin_port_is_a_port_or_off() {
        assert_eq!("off".parse(), Ok(AdminPort::Off));
        assert_eq!("9152".parse(), Ok(AdminPort::Port(9152)));
        for bad in ["", "on", "-1", "65536", "127.0.0.1:9152"] {
            assert!(bad.parse::<AdminPort>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_is_one_short_line_whatever_the_value_holds() {
        let error = SettingError::new("CHAOS", format!("a\nb{}", "x".repeat(9999)), "must be less");
        let line = error.to_string();
        assert!(line.starts_with(r#"CHAOS="a\nbxxx"#), "{line}");
        assert!(line.ends_with("… must be less"), "{line}");
        assert!(line.len() < 200);
    }

    #[test]
    fn a_secret_is_hidden_wherever_a_value_is_shown() {
        for (value, shown) in [
            ("postgres://me:a@b/c@host/db", "postgres://***@host/db"),
            ("http://me@host:1", "http://***@host:1"),
            (
                "host=db Password=s3 user=me",
                "host=db Password=*** user=me",
            ),
            (
                "postgres://h/d?sslpassword=a&password=b",
                "postgres://h/d?sslpassword=***&password=***",
            ),
            ("me:a@b:s3@host:50051", "***@host:50051"),
            ("postgres:me:s3@host/db", "***@host/db"),
            ("me:s3@http://host", "***@http://host"),
            (
                "host=db password = s3 user=me",
                "host=db password = *** user=me",
            ),
            (
                r"password='s3 \' s3' user=me&password",
                "password=*** user=me&password",
            ),
            ("password='s3", "password=***"),
            ("latency=5ms@0.5", "latency=5ms@0.5"),
            (
                "latency=5ms@0.5,error=0.1:INTERNAL",
                "latency=5ms@0.5,error=0.1:INTERNAL",
            ),
            (
                "error=0.1:INTERNAL,latency=5ms @ 1",
                "error=0.1:INTERNAL,latency=5ms @ 1",
            ),
            ("/run/user@1/ca.pem", "/run/user@1/ca.pem"),
            ("sqlite:data/me@home.db", "sqlite:data/me@home.db"),
            ("http://host:1/path", "http://host:1/path"),
            ("password=", "password=***"),
        ] {
            assert_eq!(masked(value), shown);
        }
        let error = SettingError::new("USER_SERVICE_URL", "http://me:s3cret@host:1", "must be");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }

    #[test]
    fn one_port_cannot_serve_two_purposes() {
        let both = ServeSettings {
            port: 9000,
            metrics_port: 9000,
            ..ServeSettings::default()
        };
        assert_eq!(
            both.validate().unwrap_err().to_string(),
            r#"METRICS_PORT="9000" must be a port other than PORT"#
        );
        assert!(ServeSettings::default().validate().is_ok());
    }
}
