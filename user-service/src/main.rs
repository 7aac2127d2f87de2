//! The program `user-service`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::program::run::<user_service::Settings>()
}
