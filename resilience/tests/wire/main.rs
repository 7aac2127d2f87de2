//! The real stack on real connections, to a server that misbehaves on purpose.
//!
//! | file | what |
//! | --- | --- |
//! | `statuses.rs` | statuses of gRPC, in every place |
//! | `messages.rs` | messages that are missing, too many, or wrong |
//! | `pages.rs` | answers of somebody who does not speak gRPC |
//! | `resets.rs` | RST_STREAM and GOAWAY |
//! | `closes.rs` | the connection closes, breaks off or falls silent |
//! | `protocol.rs` | what HTTP/2 forbids |
//! | `case.rs` | what a case of these is, and what it expects |
//! | `matrix.rs`, `verdict.rs` | how each is met, and judged |
//! | `connecting.rs` | no connection |
//! | `races.rs` | calls that meet the end of a connection |
//! | `a6.rs` | cases of gRFC A6 that need a connection |
//! | `bounds.rs` | servers that go on, or stop |
//! | `malice.rs` | servers that never stop |
//! | `features.rs` | what tonic was built with |
//! | `bench.rs` | the client: the real stack, and all that can be seen of it |
//! | `server.rs`, `connection.rs`, `pours.rs` | the server |
//! | `fault.rs`, `frames.rs` | what it does wrong, and in which bytes |
//!
//! Time is real: the clock must not jump while an answer is on its way.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know as such

mod a6;
mod bench;
mod bounds;
mod case;
mod closes;
mod connecting;
mod connection;
mod fault;
mod features;
mod frames;
mod malice;
mod matrix;
mod messages;
mod pages;
mod pours;
mod protocol;
mod races;
mod resets;
mod server;
mod statuses;
mod verdict;
