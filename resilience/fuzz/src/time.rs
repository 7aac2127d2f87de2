//! Virtual time.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

/// Longer than anything here may take.
const FOREVER: Duration = Duration::from_secs(3600);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs `future` with the clock paused: a second takes no time.
///
/// # Panics
/// When it waits for something that never comes.
pub(crate) fn in_virtual_time<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing")
        .block_on(async { timeout(FOREVER, future).await })
        .expect("it ends")
}
