//! The metrics of this service: the only file that names them.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::chaos::{Chaos, Share};

/// Faults that were injected, by kind and method.
const CHAOS_INJECTED: &str = "chaos_injected_total";
/// What the switch is set to, by kind; there whether calls come or not.
const CHAOS_IN_FORCE: &str = "chaos_in_force_ratio";

/// Says what the metrics mean.
pub(crate) fn describe() {
    describe_counter!(
        CHAOS_INJECTED,
        Unit::Count,
        "Faults that were injected on purpose, by kind and method"
    );
    describe_gauge!(
        CHAOS_IN_FORCE,
        Unit::Count,
        "Share of calls that each fault is set to hit, 0 to 1; 1 for capacity while slots are limited"
    );
}

/// Shows which faults are in force.
#[derive(Debug)]
pub(crate) struct InForce {
    error: Gauge,
    latency: Gauge,
    hang: Gauge,
    capacity: Gauge,
}

impl InForce {
    pub(crate) fn new() -> Self {
        let of = |kind| gauge!(CHAOS_IN_FORCE, "kind" => kind);
        Self {
            error: of("error"),
            latency: of("latency"),
            hang: of("hang"),
            capacity: of("capacity"),
        }
    }

    /// Shows these, and no others.
    pub(crate) fn show(&self, chaos: &Chaos) {
        let share =
            |share: Option<Share>| share.map_or(0.0, |share| f64::from(share.millionths()) / 1e6);
        self.error.set(share(chaos.error.map(|fault| fault.share)));
        self.latency
            .set(share(chaos.latency.map(|fault| fault.share)));
        self.hang.set(share(chaos.hang));
        self.capacity.set(share(chaos.capacity.map(|_| Share::ALL)));
    }
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
