//! A span per call, and one per attempt.
//!
//! Named as gRFC A72 says: `Sent.pkg.Service.Method` for the call, with an
//! `Attempt.pkg.Service.Method` inside for each attempt that is sent. Whoever
//! exports spans takes those names from the field `otel.name`. What was decided
//! on the way (a refusal, a wait, why there was no retry) are events of the
//! call's span.
//!
//! All of it is of level DEBUG. Where nobody asks for that, a span costs a look
//! at a flag.

use http::Request;
use tonic::{Code, body::Body};
use tracing::{Level, Span, debug_span, field::Empty, level_enabled};

use crate::{
    context::Context,
    guard::{Admission, End, Over, Policy},
    upstream::Upstream,
};

/// Makes the span of a call, or of an attempt.
#[derive(Debug)]
pub(crate) struct TracePolicy {
    upstream: Upstream,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Call,
    Attempt,
}

impl TracePolicy {
    pub(crate) fn of_calls(upstream: &Upstream) -> Self {
        Self {
            upstream: upstream.clone(),
            of: Of::Call,
        }
    }

    pub(crate) fn of_attempts(upstream: &Upstream) -> Self {
        Self {
            upstream: upstream.clone(),
            of: Of::Attempt,
        }
    }
}

/// A method as spans are named after it: with dots alone.
fn dotted(method: &str) -> String {
    method.replace('/', ".")
}

impl Policy for TracePolicy {
    /// `None` where nobody asks for spans.
    type Leave = Option<Span>;

    #[inline]
    fn admit(
        &self,
        leave: &mut Option<Span>,
        context: &mut Context,
        request: &mut Request<Body>,
    ) -> Admission {
        if !level_enabled!(Level::DEBUG) {
            return Admission::Admitted;
        }
        let method = context.method(&self.upstream, request);
        let name = |what| format!("{what}.{}", dotted(self.upstream.method_name(method)));
        let span = match self.of {
            Of::Call => debug_span!(
                "call",
                otel.name = name("Sent"),
                otel.kind = "client",
                otel.status_code = Empty,
                rpc.system = "grpc",
                rpc.grpc.status_code = Empty,
                upstream = self.upstream.name(),
            ),
            Of::Attempt => debug_span!(
                "attempt",
                otel.name = name("Attempt"),
                otel.kind = "client",
                otel.status_code = Empty,
                rpc.grpc.status_code = Empty,
                "previous-rpc-attempts" = context.previous_attempts,
                "transparent-retry" = context.transparent,
            ),
        };
        *leave = (!span.is_disabled()).then_some(span);
        Admission::Admitted
    }

    #[inline]
    fn span<'a>(&self, span: &'a Option<Span>) -> Option<&'a Span> {
        span.as_ref()
    }

    #[inline]
    fn ended(&self, span: &mut Option<Span>, _: &Context, end: End<'_>, _: Over) {
        let Some(span) = span.take() else { return };
        let code = match end {
            End::Ok => Code::Ok,
            End::Failed(status) => status.code(),
            End::Dropped => Code::Cancelled,
        };
        span.record("rpc.grpc.status_code", code as i32);
        let verdict = if code == Code::Ok { "OK" } else { "ERROR" };
        span.record("otel.status_code", verdict);
    }
}
