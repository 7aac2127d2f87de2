//! Colours on a terminal.

use std::{env, io::IsTerminal};

/// What a colour means on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hue {
    Good,
    Warn,
    Bad,
    Quiet,
    Loud,
}

/// Puts text into colours, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours when a person is looking and nobody has asked for none.
    pub(crate) fn new(output: &impl IsTerminal, no_color: bool) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            on: output.is_terminal() && !no_color && !refused && !dumb,
        }
    }

    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { on: false }
    }

    pub(crate) fn text(self, hue: Hue, text: &str) -> String {
        let code = match hue {
            Hue::Good => "32",
            Hue::Warn => "33",
            Hue::Bad => "31",
            Hue::Quiet => "2",
            Hue::Loud => "1",
        };
        match self.on {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// Good from 99 % on, bad below half.
pub(crate) fn hue_of(success: Option<f64>) -> Hue {
    match success {
        None => Hue::Quiet,
        Some(share) if share >= 0.99 => Hue::Good,
        Some(share) if share >= 0.5 => Hue::Warn,
        Some(_) => Hue::Bad,
    }
}
