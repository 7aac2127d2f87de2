//! Faults on purpose, for demonstrations and tests.
//!
//! | file | what for |
//! | --- | --- |
//! | `grammar.rs` | [`Chaos`]: which faults, and their text |
//! | `fate.rs` | what happens to the nth call: pure, and the same on every run |
//! | `switch.rs` | does it to a call; lets the faults be changed meanwhile |
//! | `api.rs` | reads and changes them over gRPC |

mod api;
mod fate;
mod grammar;
mod switch;

pub use grammar::{Capacity, Chaos, ChaosError, ErrorFault, Latency, Share};
pub use switch::ChaosSwitch;

pub(crate) use api::ChaosApi;
pub(crate) use switch::Injector;
