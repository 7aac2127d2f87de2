//! The program: see the library.

use std::process::ExitCode;

use clap::Parser as _;
use load_test::{load_test, settings::Settings};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(error) if error.use_stderr() => return refuse(&one_line(&error)),
        Err(help) => {
            // A reader that has gone away has read enough.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match load_test(&settings).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => refuse(&error.to_string()),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("load-test: {why}");
    ExitCode::from(2)
}

/// What is wrong, without the usage that clap adds below an empty line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_owned()
}
