//! The metrics of this service: the only file that names them.

use metrics::{Counter, Unit, counter, describe_counter};

/// Requests to create an order, by what came of them.
const ORDERS: &str = "orders_total";

/// What came of a request to create an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was created.
    Created,
    /// It had been created before, by the same request.
    Repeated,
    /// The user may not order.
    UserInvalid,
    /// The user service was not asked: the circuit is open, or the limit is
    /// reached.
    Refused,
    /// The user service was asked, and failed.
    Upstream,
    /// Time ran out, the caller's or our own.
    Deadline,
    /// The database failed, or more orders wait for it than may.
    Storage,
    /// The request made no sense.
    BadRequest,
    /// There is another order of this id.
    Conflict,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Created,
        Self::Repeated,
        Self::UserInvalid,
        Self::Refused,
        Self::Upstream,
        Self::Deadline,
        Self::Storage,
        Self::BadRequest,
        Self::Conflict,
    ];

    /// The values of the labels `status` and `reason`.
    pub(crate) fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Created => ("created", "none"),
            Self::Repeated => ("created", "repeated"),
            Self::UserInvalid => ("error", "user_invalid"),
            Self::Refused => ("error", "refused"),
            Self::Upstream => ("error", "upstream"),
            Self::Deadline => ("error", "deadline"),
            Self::Storage => ("error", "storage"),
            Self::BadRequest => ("invalid", "bad_request"),
            Self::Conflict => ("invalid", "already_exists"),
        }
    }
}

/// Counts requests by outcome; all outcomes are there from the start, at zero.
#[derive(Debug)]
pub(crate) struct Orders([Counter; Outcome::ALL.len()]);

impl Orders {
    pub(crate) fn new() -> Self {
        describe_counter!(
            ORDERS,
            Unit::Count,
            "Requests to create an order, by outcome"
        );
        Self(Outcome::ALL.map(|outcome| {
            let (status, reason) = outcome.labels();
            counter!(ORDERS, "status" => status, "reason" => reason)
        }))
    }

    pub(crate) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_counter() {
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
    }
}
