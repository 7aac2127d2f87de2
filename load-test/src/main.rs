//! The program: see the library.

use std::process::ExitCode;

use clap::Parser as _;
use load_test::{load_test, settings::Settings};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    match load_test(&settings).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("load-test: {error}");
            ExitCode::from(2)
        }
    }
}
