//! The metrics of this service: the only file that names them.

use metrics::{Counter, Unit, counter, describe_counter};

/// Faults that were injected, by kind and method.
const CHAOS_INJECTED: &str = "chaos_injected_total";

/// Says what the metrics mean.
pub(crate) fn describe() {
    describe_counter!(
        CHAOS_INJECTED,
        Unit::Count,
        "Faults that were injected on purpose"
    );
}

/// Faults injected into one method. All kinds are there from the start, at
/// zero, so that a dashboard shows a line before the first fault.
#[derive(Debug, Clone)]
pub(crate) struct Injected {
    /// Calls that were failed.
    pub(crate) error: Counter,
    /// Calls that were delayed.
    pub(crate) latency: Counter,
    /// Calls that were left hanging.
    pub(crate) hang: Counter,
    /// Calls that were refused because all slots and the queue were taken.
    pub(crate) capacity: Counter,
}

impl Injected {
    pub(crate) fn new(method: &'static str) -> Self {
        let of = |kind| counter!(CHAOS_INJECTED, "kind" => kind, "method" => method);
        Self {
            error: of("error"),
            latency: of("latency"),
            hang: of("hang"),
            capacity: of("capacity"),
        }
    }
}
