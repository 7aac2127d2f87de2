//! From the command line and the environment to settings, through clap.
//!
//! Three things differ from clap's own ways:
//! - An empty variable counts as unset. Compose files pass `CHAOS=${CHAOS:-}`.
//! - A bad value is one line that names the *variable*. clap names the flag,
//!   in a paragraph.
//! - The values in force can be listed, wherever each came from.

use std::{error::Error as _, ffi::OsString, slice};

use clap::{
    ArgMatches, Command, Parser,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{SettingError, Shown, masked};

/// Settings, and what they hold, for the log.
pub(crate) struct Parsed<T> {
    pub(crate) settings: T,
    pub(crate) in_force: String,
}

/// Why there are no settings.
#[derive(Debug)]
pub(crate) enum Stop {
    /// `--help` or `--version` was asked for.
    Show(clap::Error),
    /// A setting cannot be used.
    Setting(SettingError),
    /// The command line is none of ours.
    Usage(String),
}

/// Reads settings from `args` and from the environment that `command` has seen.
pub(crate) fn parse<T: Parser>(
    command: Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<T>, Stop> {
    let mut command = command;
    let variables = Variables::of(&command);
    variables.check_encoding(&command).map_err(Stop::Setting)?;
    command = without_empty_variables(command);

    let matches = command
        .try_get_matches_from_mut(args)
        .map_err(|error| variables.explain(error))?;
    let settings = T::from_arg_matches(&matches).map_err(|error| variables.explain(error))?;
    Ok(Parsed {
        settings,
        in_force: variables.in_force(&matches),
    })
}

/// Makes an empty variable count as unset; the help still names it.
fn without_empty_variables(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_env() {
        Some(variable) if std::env::var_os(variable).is_some_and(|value| value.is_empty()) => {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let help = format!("{help} [env: {}]", variable.to_string_lossy());
            arg.env(Resettable::Reset).help(help)
        }
        _ => arg,
    })
}

/// What clap says, in which every word that was typed is [`masked`].
fn without_secrets(error: &clap::Error) -> String {
    let typed = error.context().flat_map(|(_, value)| match value {
        ContextValue::String(text) => slice::from_ref(text),
        ContextValue::Strings(texts) => texts,
        _ => &[],
    });
    typed.fold(error.to_string(), |text, word| match masked(word) {
        hidden if hidden == *word => text,
        hidden => text.replace(word, &hidden),
    })
}

/// The variable of each argument.
struct Variables(Vec<Variable>);

struct Variable {
    /// clap's name of the argument.
    id: String,
    /// How clap's errors begin to write the argument: `--port`.
    flag: String,
    name: String,
}

impl Variables {
    fn of(command: &Command) -> Self {
        Self(
            command
                .get_arguments()
                .filter_map(|arg| {
                    Some(Variable {
                        id: arg.get_id().to_string(),
                        flag: format!("--{}", arg.get_long()?),
                        name: arg.get_env()?.to_string_lossy().into_owned(),
                    })
                })
                .collect(),
        )
    }

    /// clap cannot say which variable is not UTF-8.
    fn check_encoding(&self, command: &Command) -> Result<(), SettingError> {
        for variable in command.get_arguments().filter_map(|arg| arg.get_env()) {
            if let Some(value) = std::env::var_os(variable)
                && value.to_str().is_none()
            {
                let name = variable.to_string_lossy();
                return Err(SettingError::new(
                    name,
                    value.display(),
                    "must be text in UTF-8",
                ));
            }
        }
        Ok(())
    }

    fn explain(&self, error: clap::Error) -> Stop {
        if matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        ) {
            return Stop::Show(error);
        }
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        match error.kind() {
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                let argument = text(ContextKind::InvalidArg).unwrap_or_default();
                let flag = argument.split(' ').next().unwrap_or_default();
                let variable = self.0.iter().find(|variable| variable.flag == flag);
                let refusal = error.source().map(ToString::to_string);
                Stop::Setting(SettingError::new(
                    variable.map_or(flag, |variable| &variable.name),
                    text(ContextKind::InvalidValue).unwrap_or_default(),
                    refusal.unwrap_or_else(|| "needs a value".to_owned()),
                ))
            }
            _ => {
                let paragraph = without_secrets(&error);
                let line = paragraph.lines().next().unwrap_or_default();
                let line = line.strip_prefix("error: ").unwrap_or(line);
                Stop::Usage(format!("{line}; --help lists what there is"))
            }
        }
    }

    /// `HOST=127.0.0.1 PORT=50051 ...`, as typed.
    fn in_force(&self, matches: &ArgMatches) -> String {
        let shown = |value: &str| {
            let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
            if !value.is_empty() && value.len() <= 80 && value.chars().all(plain) {
                value.to_owned()
            } else {
                Shown(value).to_string()
            }
        };
        let pairs = self.0.iter().filter_map(|variable| {
            let value = masked(&matches.get_raw(&variable.id)?.next()?.to_string_lossy());
            Some(format!("{}={}", variable.name, shown(&value)))
        });
        pairs.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "test")]
    struct Settings {
        /// How long.
        #[arg(long, env = "KIT_TEST_SPAN", default_value = "1s", value_parser = crate::settings::duration)]
        span: std::time::Duration,
    }

    fn parsed(args: &[&str]) -> Result<Parsed<Settings>, Stop> {
        parse(
            Settings::command(),
            ["test"].iter().chain(args).map(OsString::from),
        )
    }

    #[test]
    fn the_values_in_force_are_listed_by_variable() {
        let parsed = parsed(&["--span", "250ms"]).unwrap_or_else(|stop| panic!("{stop:?}"));
        assert_eq!(parsed.settings.span.as_millis(), 250);
        assert_eq!(parsed.in_force, "KIT_TEST_SPAN=250ms");
    }

    #[test]
    fn a_bad_value_names_the_variable_the_value_and_what_is_allowed() {
        let Err(Stop::Setting(error)) = parsed(&["--span", "soon"]) else {
            panic!()
        };
        assert_eq!(
            error.to_string(),
            r#"KIT_TEST_SPAN="soon" must be a time with its unit, such as 250ms, 2s or 1m"#
        );
    }

    #[test]
    fn an_unknown_flag_is_one_line() {
        let Err(Stop::Usage(line)) = parsed(&["--spam", "1s"]) else {
            panic!()
        };
        assert_eq!(
            line,
            "unexpected argument '--spam' found; --help lists what there is"
        );
    }
}
