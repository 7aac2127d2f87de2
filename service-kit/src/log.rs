//! The log: its format, and identifiers that are safe to write into it.

use std::{
    fmt::{Display, Formatter, Result as FmtResult, Write as _},
    io::{self, IsTerminal as _},
};

use clap::Args;
use tokio::time::Instant;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::trace::{self, Exporting, TraceSettings};

/// How to log.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// What to log: a level, or levels by module, such as
    /// `info,user_service=debug`.
    #[arg(
        long = "log",
        env = "RUST_LOG",
        value_name = "FILTER",
        default_value = "info",
        value_parser = filter
    )]
    pub filter: String,

    /// How to write it: `text` for people, `json` for machines.
    #[arg(
        long = "log-format",
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        value_parser = format
    )]
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard output, and exporting traces as those of
/// `program`, for the whole process.
///
/// A process that logs already (a test, or a program that runs a service inside
/// itself) keeps its log.
///
/// # Panics
/// When traces are to be exported, and this is no tokio runtime.
pub fn init(log: &LogSettings, trace: &TraceSettings, program: &'static str) -> Exporting {
    let lines = fmt::layer().with_ansi(io::stdout().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (spans, exporting) = trace::layer(trace, program);
    let _already_logging = tracing_subscriber::registry()
        .with(spans)
        .with(lines.with_filter(EnvFilter::new(&log.filter)))
        .try_init();
    exporting
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|_| {
            "must be a level (error, warn, info, debug, trace, off), or module=level, \
                      separated by commas"
                .to_owned()
        })
}

fn format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json"),
    }
}

/// How long ago `start` was, in milliseconds, as precise as a log needs.
#[must_use]
pub fn took_ms(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0
}

/// An identifier that came from outside, made safe to log and to repeat in a
/// message: at most 64 characters, with control characters escaped.
///
/// ```
/// # use service_kit::log::Id;
/// assert_eq!(Id("user-123").to_string(), "user-123");
/// assert_eq!(Id("two\nlines").to_string(), "two\\nlines");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Id<'a>(pub &'a str);

impl Display for Id<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        safely(self.0, 64, f)
    }
}

/// A message that came from outside, made as safe as an [`Id`]: at most 200
/// characters.
#[derive(Debug, Clone, Copy)]
pub struct Excerpt<'a>(pub &'a str);

impl Display for Excerpt<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        safely(self.0, 200, f)
    }
}

fn safely(text: &str, chars_max: usize, f: &mut Formatter<'_>) -> FmtResult {
    let mut chars = text.chars();
    for c in chars.by_ref().take(chars_max) {
        match c {
            // `escape_debug` also escapes these, to no use here.
            '\'' | '"' => f.write_char(c)?,
            _ => c.escape_debug().try_for_each(|c| f.write_char(c))?,
        }
    }
    if chars.next().is_some() {
        f.write_char('…')
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_id_is_short_and_stays_on_its_line() {
        let hostile = format!("{}\n\u{1b}[31m", "x".repeat(1_000_000));
        assert_eq!(Id(&hostile).to_string().chars().count(), 64 + 1);
        assert_eq!(
            Id("a\r\n\u{1b}[0m\u{202e}").to_string(),
            "a\\r\\n\\u{1b}[0m\\u{202e}"
        );
        assert_eq!(Id("Иван's \"id\"").to_string(), "Иван's \"id\"");
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused() {
        assert!(filter("info,user_service=debug").is_ok());
        assert!(filter("user_service=loud").is_err());
        assert_eq!(format("xml"), Err("must be text or json"));
    }
}
