//! What wakes an exchange when its time is up.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes the task when time is up.
pub trait Timer: Default {
    /// Ready at `at`, which may be another time than before.
    fn poll(self: Pin<&mut Self>, at: Instant, cx: &mut TaskContext<'_>) -> Poll<()>;
}

/// For what somebody below ends in time: no room for a timer is kept.
#[derive(Debug, Default)]
pub(crate) struct EndedBelow;

impl Timer for EndedBelow {
    fn poll(self: Pin<&mut Self>, _: Instant, _: &mut TaskContext<'_>) -> Poll<()> {
        Poll::Pending
    }
}

pin_project! {
    /// One timer of the runtime, registered at the first wait.
    #[derive(Default)]
    pub struct OneTimer {
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Timer for OneTimer {
    fn poll(self: Pin<&mut Self>, at: Instant, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut sleep = self.project().sleep;
        match sleep.as_mut().as_pin_mut() {
            None => sleep.set(Some(sleep_until(at))),
            // A further attempt has another time to end, and so has a stream
            // once its first message is there.
            Some(sleep) if sleep.deadline() != at => sleep.reset(at),
            Some(_) => {}
        }
        match sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for OneTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneTimer").finish_non_exhaustive()
    }
}
