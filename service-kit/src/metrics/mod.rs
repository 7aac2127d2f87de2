//! The recorder of the process, and what every service measures.
//!
//! There is one recorder per process, whichever service asks first; two
//! services in one process share it, and each `/metrics` shows both. Metrics
//! are registered when a service starts, at zero, and their handles are held:
//! looking one up per call costs twenty times as much as counting.
//!
//! This file holds all metric names of this crate.

mod calls;
mod rows;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use resilience::{COUNT_BUCKETS, DURATION_BUCKETS};
use tokio::runtime::Handle;

pub(crate) use calls::CallMetricsLayer;
pub(crate) use rows::NotBegun;

use crate::StartError;

/// Calls that reached the server.
const CALL_STARTED: &str = "grpc_server_call_started_total";
/// How long calls took, to the last byte of the answer.
const CALL_DURATION: &str = "grpc_server_call_duration_seconds";
/// Calls that were turned away before anything was done for them.
const CALLS_NOT_BEGUN: &str = "grpc_server_calls_not_begun_total";
/// Threads that run tasks.
const RUNTIME_WORKERS: &str = "tokio_workers";
/// Time that all of them together have been busy.
const RUNTIME_BUSY: &str = "tokio_workers_busy_seconds_total";
/// Tasks that have not ended.
const RUNTIME_TASKS: &str = "tokio_alive_tasks";
/// Tasks that are ready to run and wait for any thread.
const RUNTIME_QUEUED: &str = "tokio_global_queue_depth";

/// What only grows, and in fractions. The recorder's counters hold whole numbers,
/// so these are gauges to it; the page says what they are.
const FRACTIONAL_COUNTERS: [&str; 2] = ["process_cpu_seconds_total", RUNTIME_BUSY];

/// Something to do before each scrape: bring a gauge up to date.
pub(crate) type Hook = Arc<dyn Fn() + Send + Sync>;

/// The recorder of this process, as it is scraped.
pub(crate) struct Registry {
    prometheus: PrometheusHandle,
    process: Collector,
    hooks: Mutex<Vec<Weak<dyn Fn() + Send + Sync>>>,
}

impl Registry {
    /// The one of this process, made by whoever asks first.
    pub(crate) fn of_process() -> Result<&'static Self, StartError> {
        static REGISTRY: OnceLock<Option<Registry>> = OnceLock::new();
        REGISTRY
            .get_or_init(Self::install)
            .as_ref()
            .ok_or(StartError::Recorder)
    }

    fn install() -> Option<Self> {
        let recorder = builder().build_recorder();
        let prometheus = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;

        describe_counter!(CALL_STARTED, Unit::Count, "Calls that reached the server");
        describe_histogram!(
            CALL_DURATION,
            Unit::Seconds,
            "Time from a call's arrival to the last byte of its answer"
        );
        describe_counter!(
            CALLS_NOT_BEGUN,
            Unit::Count,
            "Calls that were turned away before anything was done for them, by reason"
        );
        describe_gauge!(RUNTIME_WORKERS, Unit::Count, "Threads that run tasks");
        describe_gauge!(
            RUNTIME_BUSY,
            Unit::Seconds,
            "Time that all workers have been busy"
        );
        describe_gauge!(RUNTIME_TASKS, Unit::Count, "Tasks that have not ended");
        describe_gauge!(
            RUNTIME_QUEUED,
            Unit::Count,
            "Tasks that wait for any worker"
        );
        let process = Collector::default();
        process.describe();
        Some(Self {
            prometheus,
            process,
            hooks: Mutex::default(),
        })
    }

    /// Calls `hook` before each scrape, for as long as it lives.
    pub(crate) fn on_scrape(&self, hook: &Hook) {
        let mut hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.retain(|hook| hook.strong_count() > 0);
        hooks.push(Arc::downgrade(hook));
    }

    /// Everything there is to see now, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let hooks: Vec<Hook> = {
            let hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            hooks.iter().filter_map(Weak::upgrade).collect()
        };
        hooks.iter().for_each(|hook| hook());
        self.process.collect();
        with_counters(self.prometheus.render(), &FRACTIONAL_COUNTERS)
    }

    /// Folds recorded samples into their histograms. Without it they pile up
    /// for as long as nobody scrapes.
    pub(crate) fn upkeep(&self) {
        self.prometheus.run_upkeep();
    }
}

/// The page, with `names` typed as counters.
fn with_counters(page: String, names: &[&str]) -> String {
    names.iter().fold(page, |page, name| {
        let (said, meant) = (
            format!("# TYPE {name} gauge\n"),
            format!("# TYPE {name} counter\n"),
        );
        page.replacen(&said, &meant, 1)
    })
}

/// Without `idle_timeout`, which would orphan the handles that are held. The
/// bounds are the client library's, so that both sides of a call compare.
fn builder() -> PrometheusBuilder {
    let time = Matcher::Suffix("_seconds".to_owned());
    COUNT_BUCKETS
        .iter()
        .fold(
            PrometheusBuilder::new().set_buckets_for_metric(time, DURATION_BUCKETS),
            |builder, (name, bounds)| {
                let name = Matcher::Full((*name).to_owned());
                builder?.set_buckets_for_metric(name, bounds)
            },
        )
        .expect("no list of buckets is empty")
}

/// Measures the runtime that this is called in, at each scrape, for as long as
/// the hook lives.
pub(crate) fn runtime_hook() -> Hook {
    let runtime = Handle::current().metrics();
    let workers = gauge!(RUNTIME_WORKERS);
    let busy = gauge!(RUNTIME_BUSY);
    let tasks = gauge!(RUNTIME_TASKS);
    let queued = gauge!(RUNTIME_QUEUED);
    Arc::new(move || {
        let each_busy = (0..runtime.num_workers()).map(|n| runtime.worker_total_busy_duration(n));
        workers.set(runtime.num_workers() as f64);
        busy.set(each_busy.sum::<Duration>());
        tasks.set(runtime.num_alive_tasks() as f64);
        queued.set(runtime.global_queue_depth() as f64);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_of_time_has_buckets_and_one_of_retries_has_its_own() {
        let recorder = builder().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("anything_seconds").record(0.004);
            metrics::histogram!("grpc_client_call_retries").record(2.0);
            metrics::histogram!("grpc_client_call_transparent_retries").record(1.0);
        });
        let text = recorder.handle().render();

        assert!(
            text.contains("anything_seconds_bucket{le=\"0.0025\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("anything_seconds_bucket{le=\"0.005\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("grpc_client_call_retries_bucket{le=\"5\"} 1\n"),
            "{text}"
        );
        assert_eq!(
            text.matches("transparent_retries_bucket").count(),
            2,
            "{text}"
        );
    }

    #[test]
    fn what_only_grows_is_a_counter_though_it_has_fractions() {
        let recorder = builder().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            gauge!("a_seconds_total").set(0.5);
            gauge!("b_seconds_total").set(0.5);
        });
        let page = with_counters(recorder.handle().render(), &["a_seconds_total"]);

        assert!(
            page.contains("# TYPE a_seconds_total counter\na_seconds_total 0.5\n"),
            "{page}"
        );
        assert!(
            page.contains("# TYPE b_seconds_total gauge\nb_seconds_total 0.5\n"),
            "{page}"
        );
    }

    #[test]
    fn a_hook_runs_at_each_scrape_until_it_is_dropped() {
        let registry = Registry::of_process().unwrap();
        let gauge = metrics::gauge!("kit_test_gauge");
        let hook: Hook = Arc::new(move || gauge.increment(1.0));
        registry.on_scrape(&hook);

        assert!(registry.render().contains("kit_test_gauge 1\n"));
        assert!(registry.render().contains("kit_test_gauge 2\n"));
        drop(hook);
        assert!(registry.render().contains("kit_test_gauge 2\n"));
    }
}
