//! The figures that are promised: they stand here and nowhere else.

use std::time::Duration;

/// While nothing fails: at rest, and when every answer is slow. What a target that fails every
/// order at once cannot keep.
pub const SUCCESS_AT_REST: f64 = 0.99;
/// While 10 % of the attempts fail. Three attempts could reach 99.9 %.
pub const SUCCESS_AT_10: f64 = 0.996;
/// While 10 % of the attempts fail. Retrying every failure costs 1.11.
pub const ATTEMPTS_AT_10: f64 = 1.14;
/// While 30 % of the attempts fail. Three attempts could reach 97.3 %.
pub const SUCCESS_AT_30: f64 = 0.958;
/// While 30 % of the attempts fail. Retrying every failure costs 1.39.
pub const ATTEMPTS_AT_30: f64 = 1.45;
/// How far past the deadline an answer may arrive: scheduling and the way back.
pub const PAST_DEADLINE: Duration = Duration::from_millis(50);
/// How long a hang goes unnoticed.
pub const OPEN_AFTER: Duration = Duration::from_secs(1);
/// How long after a hang calls are still refused.
pub const CLOSED_AFTER: Duration = Duration::from_secs(2);
/// From when on after a fault everything is well again.
pub const WELL_AFTER: Duration = Duration::from_secs(2);
/// A call that starts this shortly before the next fault may well end in it.
pub const BEFORE_NEXT_FAULT: Duration = Duration::from_millis(100);
/// What "well again" means.
pub const SUCCESS_WHEN_WELL: f64 = 0.99;
/// Retries in an outage, beyond what the budget held when it began: what calls that
/// succeeded just before it still pay in.
pub const RETRIES_PAST_BUDGET: u32 = 5;
/// In a brown-out: useful answers, of those that the upstream can give. Retries that crowd out
/// first attempts, and a breaker that opens on a service that works, both cost some of it.
pub const GOODPUT_IN_BROWNOUT: f64 = 0.9;
/// In an outage, of all calls: the attempts by which the breaker becomes sure, the retries that
/// the budget held, and probes. Without a breaker that opens, each call is at least one.
pub const ATTEMPTS_IN_OUTAGE: f64 = 0.5;
/// What a client that tries three times whatever happens sends for each call in an outage.
pub const NAIVE_ATTEMPTS: f64 = 3.0;
