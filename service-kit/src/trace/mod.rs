//! Traces: one span per inbound call, carried on to the calls that it makes.
//!
//! Exported over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set. When it is not,
//! no span is made and no header is read or written.
//!
//! | file | what for |
//! | --- | --- |
//! | `export.rs` | to a collector, in batches, from a bounded queue |
//! | `inbound.rs` | the span of a call that is served, a child of its caller's |
//! | `outbound.rs` | tells the next service which span its call belongs to |
//!
//! The context travels as W3C says: in the header `traceparent`. Names of spans
//! are gRPC's own (gRFC A72).

mod export;
mod inbound;
mod outbound;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use clap::Args;
use tonic::transport::Uri;

pub use export::Exporting;
pub use outbound::{Traced, TracedFuture};

pub(crate) use export::layer;
pub(crate) use inbound::InboundSpan;

/// Where spans go.
#[derive(Debug, Clone, Default, Args)]
pub struct TraceSettings {
    /// Where to send traces: an OpenTelemetry collector that takes OTLP over
    /// gRPC, such as http://localhost:4317. Unset, there are none. The SDK's
    /// other variables count too: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, ...
    #[arg(
        long = "otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        value_parser = endpoint
    )]
    pub endpoint: Option<String>,
}

/// Whether this process exports spans; set once, by who installs the exporter.
static EXPORTS: AtomicBool = AtomicBool::new(false);

fn exports() -> bool {
    EXPORTS.load(Relaxed)
}

fn endpoint(text: &str) -> Result<String, &'static str> {
    let uri = text.parse::<Uri>().ok();
    uri.filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some())
        .filter(|uri| {
            uri.authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
        })
        .map(|_| text.to_owned())
        .ok_or("must be http://host:port, such as http://localhost:4317")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_its_address() {
        assert!(endpoint("http://localhost:4317").is_ok());
        for bad in [
            "localhost:4317",
            "https://c:4317",
            "grpc://c:4317",
            "http://me:secret@c:4317",
            "http://",
        ] {
            assert!(endpoint(bad).is_err(), "{bad:?}");
        }
    }
}
