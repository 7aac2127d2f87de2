//! What the fuzz targets check, as plain functions: `check(input)` panics when
//! a promise is broken. They use the public interface of the library alone.
//!
//! The tests of the library call them too, with the inputs in `seeds/`, so that
//! what was once found stays fixed where nobody fuzzes.
//!
//! | file | input | promise |
//! | --- | --- | --- |
//! | `grpc_timeout.rs` | the value of a `grpc-timeout` header | read if and only if it is well formed, and then rightly |
//! | `pushback.rs` | values of `grpc-retry-pushback-ms`, a line each | no retry before the time that they name, or against their will |
//! | `responses.rs` | a script of responses | an answer by the deadline, four attempts at most, and books that balance |
//! | `replay.rs` | a script of a request body | each attempt sends the same bytes, or there is one attempt |
//! | `chaos.rs` | text for `CHAOS` | what is written out reads back the same |
//!
//! Scripts are lines of text, so that a seed can be read and written by hand,
//! and every input is a script: a line that means nothing is skipped.

pub mod grpc_timeout;
pub mod pushback;
pub mod replay;
pub mod responses;

mod books;
mod script;
mod time;
