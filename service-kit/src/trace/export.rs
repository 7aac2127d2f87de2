//! To a collector, in batches, from a bounded queue.
//!
//! Spans that the collector does not take in time are dropped, the newest first:
//! a call never waits for its trace.

use std::{env, sync::atomic::Ordering::Relaxed, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::{EXPORTS, TraceSettings};

/// How long the last spans have to leave, when a program ends.
const FLUSH: Duration = Duration::from_millis(500);
/// Whose spans are exported: ours, and not those of the transport that exports.
const EXPORTED: [&str; 4] = ["service_kit", "resilience", "order_service", "user_service"];

/// The exporter of this process, or nothing when spans are not exported.
#[derive(Debug, Default)]
#[must_use = "without `end`, the last spans are lost"]
pub struct Exporting(Option<SdkTracerProvider>);

impl Exporting {
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    /// Sends what has ended so far.
    pub fn flush(&self) {
        if let Some(provider) = &self.0 {
            // It logs what goes wrong, and nobody can do more about it.
            let _ = provider.force_flush();
        }
    }

    /// Sends what is left, within half a second. Blocks meanwhile.
    pub fn end(self) {
        if let Some(provider) = self.0 {
            let _ = provider.shutdown_with_timeout(FLUSH);
        }
    }
}

/// What exports spans as those of `program`, and the handle that ends it;
/// nothing when the settings name no collector.
///
/// # Panics
/// Outside a tokio runtime, which the exporter's connection needs.
pub(crate) fn layer<S>(
    settings: &TraceSettings,
    program: &'static str,
) -> (Option<impl Layer<S> + use<S>>, Exporting)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(endpoint) = &settings.endpoint else {
        return (None, Exporting::nothing());
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .expect("the endpoint has been checked to be a URL");
    let name = env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| program.to_owned());
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(name).build())
        .build();
    let targets = EXPORTED.map(|target| (target, LevelFilter::DEBUG));
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(program))
        // The lines of the log are in the log.
        .with_location(false)
        .with_threads(false)
        .with_filter(Targets::new().with_targets(targets));
    EXPORTS.store(true, Relaxed);
    (Some(layer), Exporting(Some(provider)))
}
