//! Faults on purpose, for demonstrations and tests.
//!
//! | file | what for |
//! | --- | --- |
//! | `faults.rs` | [`Chaos`]: which faults, as data and written out |
//! | `grammar.rs` | reads them from text |
//! | `fate.rs` | what happens to the nth call: pure, and the same on every run |
//! | `switch.rs` | does it to a call; lets the faults be changed meanwhile |
//! | `api.rs` | reads and changes them over gRPC |

mod api;
mod fate;
mod faults;
mod grammar;
mod switch;

pub use faults::{Capacity, Chaos, ErrorFault, Latency, Share};
pub use grammar::ChaosError;

pub(crate) use api::ChaosApi;
pub(crate) use switch::{ChaosSwitch, Injector};
