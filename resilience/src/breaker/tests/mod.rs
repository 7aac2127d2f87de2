//! The breaker as a whole: what the rules of the machine come to.
//!
//! | file | what |
//! | --- | --- |
//! | `random.rs` | long random sequences: it does what the machine does, and keeps its promises |
//! | `figures.rs` | what it does to an upstream that fails this much, at so many calls a second |
//! | `threads.rs` | many threads at once |
//! | `shown.rs` | what its handle shows |

mod figures;
mod random;
mod shown;
mod threads;

use std::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
