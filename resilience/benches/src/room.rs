//! The surroundings of what is measured: a runtime, a recorder of metrics.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use resilience::{COUNT_BUCKETS, DURATION_BUCKETS};
use tokio::{
    runtime::{Builder, EnterGuard, Runtime},
    task::yield_now,
    time::sleep,
};

/// How many calls the recorder is left alone for.
///
/// Samples pile up between two drains, in blocks of this many. A drain is work
/// of another task, which the services run every few seconds: it is counted
/// apart.
pub(crate) const CALLS_PER_UPKEEP: u32 = 512;

/// A runtime of one thread that is entered and not run: futures are polled by
/// hand, and what they ask of the runtime is there.
#[derive(Debug)]
pub(crate) struct Room {
    runtime: Runtime,
}

impl Room {
    pub(crate) fn new() -> Self {
        prometheus();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs a few file descriptors, and nothing else");
        let room = Self { runtime };
        room.tidy();
        room
    }

    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Does what other tasks of a process would have done in the meantime.
    ///
    /// The runtime turns once, to sleep until a timer that fires soon. A timer
    /// that is set after that takes the lock of the wheel and wakes nobody, as
    /// in a runtime that is busy; in one that has no other timer each would
    /// cost a system call.
    pub(crate) fn tidy(&self) {
        upkeep();
        self.runtime.block_on(async {
            tokio::spawn(sleep(Duration::from_millis(20)));
            yield_now().await;
            yield_now().await;
        });
    }
}

/// Folds what was recorded into the histograms.
pub(crate) fn upkeep() {
    prometheus().run_upkeep();
}

/// The recorder of the process, with the buckets that the services give it.
fn prometheus() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let time = Matcher::Suffix("_seconds".to_owned());
        let mut builder = PrometheusBuilder::new().set_buckets_for_metric(time, DURATION_BUCKETS);
        for (name, bounds) in COUNT_BUCKETS {
            let name = Matcher::Full((*name).to_owned());
            builder = builder.and_then(|builder| builder.set_buckets_for_metric(name, bounds));
        }
        let recorder = builder
            .expect("no list of buckets is empty")
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).expect("nothing else installs one");
        handle
    })
}
