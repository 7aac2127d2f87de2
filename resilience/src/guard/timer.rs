//! What wakes an exchange when its time is up.

use std::{
    fmt,
    future::Future as _,
    mem,
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    runtime::{self, Handle},
    time::{Instant, Sleep, sleep_until},
};

/// Wakes the task when time is up.
pub trait Timer: Default {
    /// Ready at `at`, which may be another time than before. What it times
    /// began at `since`.
    fn poll(
        self: Pin<&mut Self>,
        at: Instant,
        since: Instant,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()>;

    /// Nobody waits any more; somebody may again.
    fn rest(self: Pin<&mut Self>);
}

/// For what somebody below ends in time: no room for a timer is kept.
#[derive(Debug, Default)]
pub(crate) struct EndedBelow;

impl Timer for EndedBelow {
    fn poll(self: Pin<&mut Self>, _: Instant, _: Instant, _: &mut TaskContext<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn rest(self: Pin<&mut Self>) {}
}

/// A longer one is not left to run for nobody, as it holds the task that it was
/// last to wake, and its runtime.
const LEFT_RUNNING_MAX: Duration = Duration::from_secs(1);

pin_project! {
    /// One timer of the runtime, registered at the first wait.
    ///
    /// To register one and to cancel it takes the lock of all timers twice, and
    /// hardly any ever fires. So one that nobody waits for any more is left
    /// running: it is too early for whoever waits next, and set anew when it
    /// fires. In a busy client that is once for many calls. (Where a test has
    /// paused the clock and waits for something other than a timer, the clock
    /// moves on to where it fires.)
    #[derive(Default)]
    pub struct OneTimer {
        #[pin]
        sleep: Option<Sleep>,
        // Whose timer it is.
        runtime: Option<runtime::Id>,
        // Whether nobody has waited for it since it was left.
        rests: bool,
        // Whether it may be left running.
        short: bool,
    }
}

impl Timer for OneTimer {
    fn poll(
        self: Pin<&mut Self>,
        at: Instant,
        since: Instant,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        // Another runtime may have ended, and its timers with it. tokio promises
        // that ids differ among those that run, and gives none twice.
        let runtime = || Some(Handle::current().id());
        if mem::take(this.rests) && *this.runtime != runtime() {
            this.sleep.set(None);
        }
        let mut set = |at: Instant| *this.short = at - since <= LEFT_RUNNING_MAX;
        if this.sleep.is_none() {
            set(at);
            this.sleep.set(Some(sleep_until(at)));
            *this.runtime = runtime();
        }
        let Some(mut sleep) = this.sleep.as_pin_mut() else {
            return Poll::Pending;
        };
        if sleep.deadline() > at {
            set(at);
            sleep.as_mut().reset(at);
        }
        ready!(sleep.as_mut().poll(cx));
        if sleep.deadline() < at {
            set(at);
            sleep.as_mut().reset(at);
            ready!(sleep.poll(cx));
        }
        Poll::Ready(())
    }

    fn rest(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.rests = true;
        if !*this.short {
            this.sleep.set(None);
        }
    }
}

impl fmt::Debug for OneTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneTimer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        sync::Arc,
        task::{Wake, Waker},
    };

    use tokio::{
        runtime::{Builder, Runtime},
        time::timeout_at,
    };

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Polled once, and not waited for.
    fn begin(timer: Pin<&mut OneTimer>, at: Instant, since: Instant, waker: &Waker) {
        let pending = timer.poll(at, since, &mut TaskContext::from_waker(waker));
        assert_eq!(pending, Poll::Pending);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_left_running_is_on_time_for_the_next() {
        let mut timer = pin!(OneTimer::default());
        let start = Instant::now();
        begin(timer.as_mut(), start + 250 * MS, start, Waker::noop());
        timer.as_mut().rest();
        // Later than what was left, earlier, and the same.
        for (after, at) in [(100, 400), (401, 450), (500, 650), (651, 650)] {
            let (after, at) = (start + after * MS, start + at * MS);
            let mut early = 0;
            let fired = poll_fn(|cx| {
                early += 1;
                timer.as_mut().poll(at, after, cx)
            });
            timeout_at(at + 2 * MS, fired).await.unwrap();
            assert!(Instant::now() >= at, "{at:?}");
            assert!(early <= 3, "{early}");
            timer.as_mut().rest();
        }
        let soon = Instant::now() + 10 * MS;
        begin(timer.as_mut(), soon + 900 * MS, soon, Waker::noop());
        let fired = poll_fn(|cx| timer.as_mut().poll(soon, soon, cx));
        timeout_at(soon + 2 * MS, fired).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_one_is_not_left_running() {
        struct Task;
        impl Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        for (length, left) in [(250 * MS, true), (1_001 * MS, false)] {
            let task = Arc::new(Task);
            let mut timer = pin!(OneTimer::default());
            let start = Instant::now();
            let waker = Waker::from(Arc::clone(&task));
            begin(timer.as_mut(), start + length, start, &waker);
            drop(waker);
            timer.as_mut().rest();
            assert_eq!(Arc::strong_count(&task) > 1, left, "{length:?}");
        }
    }

    #[test]
    fn it_may_be_used_in_one_runtime_after_another() {
        let runtime = || -> Runtime {
            let mut builder = Builder::new_current_thread();
            builder.enable_time().start_paused(true).build().unwrap()
        };
        let mut timer = pin!(OneTimer::default());
        for _ in 0..2 {
            let runtime = runtime();
            runtime.block_on(async {
                let start = Instant::now();
                let at = start + 100 * MS;
                poll_fn(|cx| timer.as_mut().poll(at, start, cx)).await;
                begin(timer.as_mut(), at + 100 * MS, at, Waker::noop());
                timer.as_mut().rest();
            });
            drop(runtime);
        }
    }
}
