//! One question to a program that runs: a subcommand's way to a service.

use std::time::Duration;

use tokio::{runtime, time::timeout};

/// All the time that a question may take, so that a script (or a container
/// runtime, which has a timeout of its own, later) gets its answer from us.
const WITHIN: Duration = Duration::from_millis(1500);

/// Runs `question` on a runtime of its own, and gives up after 1.5 seconds.
///
/// # Errors
/// What `question` says went wrong, or that there was no answer in time.
pub fn ask<T>(question: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let answer = runtime.block_on(async { timeout(WITHIN, question).await });
    runtime.shutdown_background();
    answer.unwrap_or_else(|_| Err(format!("no answer within {WITHIN:?}")))
}
