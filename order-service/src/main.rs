//! The program `order-service`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::program::run::<order_service::Settings>()
}
