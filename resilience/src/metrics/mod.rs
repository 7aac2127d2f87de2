//! Every metric of this library, and the layers that measure calls and attempts.
//!
//! This is the only file with metric names in it. Handles are made once, when
//! a layer is made, and held: looking one up by its labels costs twenty times
//! as much as counting. So install the recorder before making layers.
//!
//! Names are those of OpenTelemetry for gRPC (gRFCs A66, A96) where it has one.
//! Counters, and gauges, exist from the start, at zero; so do the histograms of
//! the commonest statuses. Labels are bounded: a method is known from generated
//! code, or is `other`.
//!
//! | file | what |
//! | --- | --- |
//! | `call.rs` | the layer with one row per call |
//! | `attempt.rs` | the layer with one row per attempt that is sent |
//! | `by_status.rs` | a histogram per status |

mod attempt;
mod by_status;
mod call;

use std::{sync::Arc, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use tonic::{Code, Status};

use self::by_status::ByStatus;
pub use self::{
    attempt::{AttemptMetrics, AttemptMetricsLayer, AttemptMetricsPolicy},
    call::{CallMetrics, CallMetricsLayer, CallMetricsPolicy},
};
use crate::{
    breaker::{BreakerState, TransitionReason},
    rejection::Rejection,
    retry::StopReason,
    upstream::{PerMethod, Upstream},
};

const CALL_DURATION: &str = "grpc_client_call_duration_seconds";
const ATTEMPT_STARTED: &str = "grpc_client_attempt_started_total";
const ATTEMPT_DURATION: &str = "grpc_client_attempt_duration_seconds";
const CALL_RETRIES: &str = "grpc_client_call_retries";
const CALL_TRANSPARENT_RETRIES: &str = "grpc_client_call_transparent_retries";
const CALL_RETRY_DELAY: &str = "grpc_client_call_retry_delay_seconds";
const CALLS: &str = "resilience_calls_total";
const REJECTIONS: &str = "resilience_rejections_total";
const RETRIES_STOPPED: &str = "resilience_retries_stopped_total";
const BUDGET_TOKENS: &str = "resilience_retry_budget_tokens";
const BREAKER_STATE: &str = "resilience_circuit_breaker_state";
const BREAKER_TRANSITIONS: &str = "resilience_circuit_breaker_transitions_total";
const BREAKER_STATE_SECONDS: &str = "resilience_circuit_breaker_state_seconds";
const BREAKER_FAILURE_RATIO: &str = "resilience_circuit_breaker_failure_ratio";
const IN_FLIGHT: &str = "resilience_concurrency_in_flight";
const LIMIT: &str = "resilience_concurrency_limit";
const QUEUED: &str = "resilience_concurrency_queued";
const QUEUE_WAIT: &str = "resilience_concurrency_queue_wait_seconds";

/// The label of whatever is not known by name.
pub(crate) const OTHER: &str = "other";

/// Upper bounds of the duration histograms, in seconds: fine where calls of 10
/// to 50 ms lie. For the recorder, which has to be told: with
/// `metrics-exporter-prometheus`, a histogram without bounds is a summary.
pub const DURATION_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
    1.0, 2.5, 5.0,
];

/// The histograms that count instead of measuring time, and their upper bounds
/// (gRFC A96).
pub const COUNT_BUCKETS: &[(&str, &[f64])] = &[
    (CALL_RETRIES, &[1.0, 2.0, 3.0, 4.0, 5.0]),
    (CALL_TRANSPARENT_RETRIES, &[1.0]),
];

/// Describes every metric to the recorder. [`ResilienceLayer`] does it; who
/// composes the layers by hand calls it once.
///
/// [`ResilienceLayer`]: crate::ResilienceLayer
pub fn describe() {
    use Unit::{Count, Seconds};
    describe_histogram!(
        CALL_DURATION,
        Seconds,
        "Time from the start of a call to its end, retries and waits included"
    );
    describe_counter!(
        ATTEMPT_STARTED,
        Count,
        "Attempts sent, transparent retries included"
    );
    describe_histogram!(
        ATTEMPT_DURATION,
        Seconds,
        "Time from sending an attempt to its end"
    );
    describe_histogram!(
        CALL_RETRIES,
        Count,
        "Retries per call that was retried, transparent ones not counted"
    );
    describe_histogram!(
        CALL_TRANSPARENT_RETRIES,
        Count,
        "Transparent retries per call that had one"
    );
    describe_histogram!(
        CALL_RETRY_DELAY,
        Seconds,
        "Time that a retried call spent waiting to be retried"
    );
    describe_counter!(
        CALLS,
        Count,
        "Calls by how they ended; an answer such as NOT_FOUND is ok"
    );
    describe_counter!(
        REJECTIONS,
        Count,
        "Attempts refused here without being sent, by reason"
    );
    describe_counter!(
        RETRIES_STOPPED,
        Count,
        "Failed attempts that were not retried, by reason"
    );
    describe_gauge!(
        BUDGET_TOKENS,
        Count,
        "Retries that the budget allows at this moment"
    );
    describe_gauge!(
        BREAKER_STATE,
        Count,
        "1 for the state that the circuit breaker is in, 0 for the others"
    );
    describe_counter!(
        BREAKER_TRANSITIONS,
        Count,
        "Changes of the state of the circuit breaker, by reason"
    );
    describe_gauge!(
        BREAKER_STATE_SECONDS,
        Seconds,
        "Time that the circuit breaker has spent in each state"
    );
    describe_gauge!(
        BREAKER_FAILURE_RATIO,
        Count,
        "Share of failures in the window of the circuit breaker, 0 to 1"
    );
    describe_gauge!(IN_FLIGHT, Count, "Attempts in flight");
    describe_gauge!(LIMIT, Count, "Attempts that may be in flight");
    describe_gauge!(QUEUED, Count, "Attempts waiting for a slot");
    describe_histogram!(
        QUEUE_WAIT,
        Seconds,
        "Time that attempts waited for a slot, when they had to"
    );
}

/// Handles of one method's calls.
#[derive(Debug)]
pub(crate) struct CallHandles {
    pub(crate) duration: ByStatus,
    pub(crate) ok: Counter,
    pub(crate) ok_after_retry: Counter,
    pub(crate) failed: Counter,
    pub(crate) rejected: Counter,
    pub(crate) cancelled: Counter,
}

pub(crate) fn calls(upstream: &Upstream) -> PerMethod<CallHandles> {
    PerMethod::new(upstream, |upstream, method| {
        let outcome = |outcome: &'static str| counter!(CALLS, "upstream" => upstream.to_owned(), "method" => method.to_owned(), "outcome" => outcome);
        CallHandles {
            duration: ByStatus::new(CALL_DURATION, upstream, method),
            ok: outcome("ok"),
            ok_after_retry: outcome("ok_after_retry"),
            failed: outcome("failed"),
            rejected: outcome("rejected"),
            cancelled: outcome("cancelled"),
        }
    })
}

/// Handles of one method's attempts.
#[derive(Debug)]
pub(crate) struct AttemptHandles {
    pub(crate) started: Counter,
    pub(crate) duration: ByStatus,
}

pub(crate) fn attempts(upstream: &Upstream) -> PerMethod<AttemptHandles> {
    PerMethod::new(upstream, |upstream, method| AttemptHandles {
        started: counter!(ATTEMPT_STARTED, "grpc_target" => upstream.to_owned(), "grpc_method" => method.to_owned()),
        duration: ByStatus::new(ATTEMPT_DURATION, upstream, method),
    })
}

/// Handles of one method's retries.
#[derive(Debug)]
pub(crate) struct RetryHandles {
    pub(crate) retries: Histogram,
    pub(crate) transparent: Histogram,
    pub(crate) delay: Histogram,
}

pub(crate) fn retries(upstream: &Upstream) -> PerMethod<Arc<RetryHandles>> {
    PerMethod::new(upstream, |upstream, method| {
        let per_call = |name| histogram!(name, "grpc_target" => upstream.to_owned(), "grpc_method" => method.to_owned());
        Arc::new(RetryHandles {
            retries: per_call(CALL_RETRIES),
            transparent: per_call(CALL_TRANSPARENT_RETRIES),
            delay: per_call(CALL_RETRY_DELAY),
        })
    })
}

/// Counts refusals, and makes their statuses.
#[derive(Debug, Clone)]
pub(crate) struct Rejections(Arc<[Counter; Rejection::REASONS.len()]>);

impl Rejections {
    pub(crate) fn new(upstream: &str) -> Self {
        Self(Arc::new(Rejection::REASONS.map(
            |reason| counter!(REJECTIONS, "upstream" => upstream.to_owned(), "reason" => reason),
        )))
    }

    pub(crate) fn reject(&self, rejection: Rejection) -> Status {
        tracing::debug!(%rejection, "refused");
        self.0[rejection.place()].increment(1);
        rejection.into_status()
    }
}

/// Counts attempts that were not made again, by reason.
#[derive(Debug)]
pub(crate) struct RetriesStopped(Vec<Counter>);

impl RetriesStopped {
    pub(crate) fn new(upstream: &str) -> Self {
        let counter = |reason: &StopReason| counter!(RETRIES_STOPPED, "upstream" => upstream.to_owned(), "reason" => reason.as_str());
        Self(StopReason::ALL.iter().map(counter).collect())
    }

    pub(crate) fn count(&self, reason: StopReason) {
        if let Some(index) = StopReason::ALL.iter().position(|each| *each == reason) {
            self.0[index].increment(1);
        }
    }
}

pub(crate) fn budget_tokens(upstream: &str) -> Gauge {
    gauge!(BUDGET_TOKENS, "upstream" => upstream.to_owned())
}

/// What the circuit breaker shows.
#[derive(Debug, Clone)]
pub(crate) struct BreakerHandles {
    upstream: String,
    state: Vec<Gauge>,
    state_seconds: Vec<Gauge>,
    failure_ratio: Gauge,
    /// In the order of `TransitionReason::AUTOMATIC`.
    transitions: Vec<Counter>,
}

impl BreakerHandles {
    pub(crate) fn new(upstream: &str) -> Self {
        let per_state = |name: &'static str| {
            BreakerState::ALL
                .iter()
                .map(|state| gauge!(name, "upstream" => upstream.to_owned(), "state" => state.as_str()))
                .collect::<Vec<_>>()
        };
        let handles = Self {
            upstream: upstream.to_owned(),
            state: per_state(BREAKER_STATE),
            state_seconds: per_state(BREAKER_STATE_SECONDS),
            failure_ratio: gauge!(BREAKER_FAILURE_RATIO, "upstream" => upstream.to_owned()),
            transitions: TransitionReason::AUTOMATIC
                .iter()
                .map(|(from, to, reason)| transition_counter(upstream, *from, *to, *reason))
                .collect(),
        };
        handles.entered(BreakerState::Closed);
        handles
    }

    /// Counts one transition. Those that are made by hand are looked up: there
    /// are many that could be, and few that are.
    pub(crate) fn transition(
        &self,
        from: BreakerState,
        to: BreakerState,
        reason: TransitionReason,
    ) {
        let known = TransitionReason::AUTOMATIC
            .iter()
            .position(|each| *each == (from, to, reason));
        match known {
            Some(index) => self.transitions[index].increment(1),
            None => transition_counter(&self.upstream, from, to, reason).increment(1),
        }
    }

    /// Shows `state`, and that it is no other.
    pub(crate) fn entered(&self, state: BreakerState) {
        for (each, gauge) in BreakerState::ALL.iter().zip(&self.state) {
            gauge.set(if *each == state { 1.0 } else { 0.0 });
        }
    }

    pub(crate) fn refresh(&self, failure_ratio: f64, time_in: impl Fn(BreakerState) -> Duration) {
        self.failure_ratio.set(failure_ratio);
        for (state, gauge) in BreakerState::ALL.iter().zip(&self.state_seconds) {
            gauge.set(time_in(*state).as_secs_f64());
        }
    }
}

fn transition_counter(
    upstream: &str,
    from: BreakerState,
    to: BreakerState,
    reason: TransitionReason,
) -> Counter {
    counter!(
        BREAKER_TRANSITIONS,
        "upstream" => upstream.to_owned(),
        "from" => from.as_str(),
        "to" => to.as_str(),
        "reason" => reason.as_str()
    )
}

/// What the concurrency limit shows.
#[derive(Debug)]
pub(crate) struct LimitHandles {
    pub(crate) in_flight: Gauge,
    pub(crate) queued: Gauge,
    pub(crate) queue_wait: Histogram,
}

impl LimitHandles {
    pub(crate) fn new(upstream: &str, limit: usize) -> Self {
        gauge!(LIMIT, "upstream" => upstream.to_owned()).set(as_f64(limit));
        Self {
            in_flight: gauge!(IN_FLIGHT, "upstream" => upstream.to_owned()),
            queued: gauge!(QUEUED, "upstream" => upstream.to_owned()),
            queue_wait: histogram!(QUEUE_WAIT, "upstream" => upstream.to_owned()),
        }
    }
}

/// A count as gauges take it; exact up to 2^53.
#[expect(clippy::cast_precision_loss)]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

/// A status code as labels show it.
fn status_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
