//! The span of a call that is served.

use http::HeaderMap;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::Code;
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::exports;
use crate::code;

/// The span of one inbound call, from its arrival to the end of its answer.
///
/// Its field `trace_id` is there for the log: every line that is written inside
/// carries it.
#[derive(Debug, Clone)]
pub(crate) struct InboundSpan(Span);

impl InboundSpan {
    /// A span for a call of `method`, a child of the one that `headers` name;
    /// none when spans are not exported.
    pub(crate) fn new(method: &'static str, headers: &HeaderMap) -> Self {
        if !exports() {
            return Self(Span::none());
        }
        // The name in the log is the same for all; `otel.name` is the span's own.
        let span = info_span!(
            "call",
            trace_id = Empty,
            otel.name = %format_args!("Recv.{}", method.replace('/', ".")),
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system = "grpc",
            rpc.method = method,
            rpc.grpc.status_code = Empty,
        );
        let caller = TraceContextPropagator::new().extract(&Headers(headers));
        // A span that nobody collects has no parent, which is no loss.
        let _ = span.set_parent(caller);
        let trace = span.context().span().span_context().trace_id();
        span.record("trace_id", tracing::field::display(trace));
        Self(span)
    }

    /// Runs `f` inside.
    pub(crate) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        self.0.in_scope(f)
    }

    /// The call ended with `code`.
    pub(crate) fn end(&self, code: Code) {
        if self.0.is_none() {
            return;
        }
        self.0.record("rpc.grpc.status_code", code as i32);
        // The codes that OpenTelemetry has for a server's own failures.
        let failed = matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        );
        if failed {
            self.0.record("otel.status_code", "ERROR");
            self.0.set_attribute("error.type", code::name(code));
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
