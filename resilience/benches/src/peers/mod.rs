//! The crates that `resilience` is compared with, on the same work.
//!
//! None of them knows gRPC. They live where a request can be cloned and a
//! failure is an `Err`: above the generated client, around message types. So
//! what they cost is measured there, with what it takes to be there, a clone of
//! the client and a box for its future. That they do less than `resilience`
//! (no deadline on the wire, no pushback, no status in trailers, no body) is
//! not in the figures.
//!
//! | file | what |
//! | --- | --- |
//! | `typed.rs` | the generated client as a service of messages |
//! | `tower.rs` | the layers of tower itself |
//! | `tower_resilience.rs` | the crates of tower-resilience |
//! | `breakers.rs` | failsafe and recloser |

pub(crate) mod breakers;
pub(crate) mod tower;
pub(crate) mod tower_resilience;
pub(crate) mod typed;

use crate::rows::Row;

/// The rows of all peers.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = typed::rows();
    rows.extend(tower::rows());
    rows.extend(tower_resilience::rows());
    rows.extend(breakers::rows());
    rows
}
