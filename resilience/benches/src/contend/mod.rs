//! What sharing costs: two threads on one breaker, two workers on one stack.
//!
//! | file | what |
//! | --- | --- |
//! | `threads.rs` | two threads on one breaker |
//! | `waiting.rs` | what a thread does while it waits for an async lock |
//! | `tasks.rs` | two workers of a runtime on one stack |

mod tasks;
mod threads;
mod waiting;

/// Both tables.
pub(crate) fn run(rounds: usize) {
    // The recorder has to be there before the layers are.
    crate::room::upkeep();
    threads::run(rounds);
    tasks::run(rounds);
}
