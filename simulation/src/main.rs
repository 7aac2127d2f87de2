//! The program: see the library.

use std::process::ExitCode;

use clap::Parser as _;
use simulation::{Error, settings::Settings, simulate};

fn main() -> ExitCode {
    match simulate(&Settings::parse()) {
        Ok(code) => ExitCode::from(code),
        // A reader that has gone away has read enough.
        Err(Error::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("simulation: {error}");
            ExitCode::from(2)
        }
    }
}
