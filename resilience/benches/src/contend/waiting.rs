//! A thread that runs futures one by one, and sleeps while one is pending.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use tokio::time::Instant;

/// Wakes a thread that has parked itself.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// This thread, as it waits: an async lock may be taken.
pub(super) struct Waiting(Waker);

impl Waiting {
    pub(super) fn of_this_thread() -> Self {
        Self(Waker::from(Arc::new(Unpark(thread::current()))))
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        /// Nothing here is locked for so long.
        const LONGEST: Duration = Duration::from_secs(10);
        let mut future = pin!(future);
        let mut cx = Context::from_waker(&self.0);
        let mut since = None;
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            let since = *since.get_or_insert_with(Instant::now);
            assert!(since.elapsed() < LONGEST, "a lock was never given back");
            thread::park_timeout(LONGEST);
        }
    }
}
