//! The rules of other systems, in the same harness.
//!
//! Each is a client with the same attempts, delays and times as ours, so that what differs is
//! the rule alone. Where the library lets a policy be replaced, the rule goes there; what it has
//! no place for (another breaker) is a layer of its own, where ours would be.
//!
//! | file | what |
//! | --- | --- |
//! | `budgets.rs` | who may retry |
//! | `active.rs` | the same, by what is in flight |
//! | `breaker.rs` | when others open their circuits |
//! | `breaker_layer.rs` | such a circuit as a layer |

pub mod active;
pub mod breaker;
pub mod breaker_layer;
pub mod budgets;
