//! What both services share: everything about being a service, and nothing
//! about users or orders.
//!
//! A service's own crate says which settings it has and which gRPC services it
//! serves; the rest of a well-behaved program comes from here:
//!
//! | module | what for |
//! | --- | --- |
//! | [`program`] | a whole `main`: settings, logs, signals, exit codes, subcommands |
//! | [`settings`] | what each variable may hold, and one clear line when it does not |
//! | [`Server`] | the gRPC, metrics and admin ports, health, reflection, graceful shutdown |
//! | [`MetricsServer`] | a metrics port by itself |
//! | `metrics` | the recorder, and one row per call that is served |
//! | [`database`] | SQLite in a file, or PostgreSQL: opened, and its schema brought up to date |
//! | [`BadRequest`] | what is wrong with a request, field by field |
//! | [`overloaded`] | how a service says that it has too much to do |
//! | [`Deadline`] | the caller's, which every request is stamped with |
//! | [`tls`] | doors that lock: certificates, who may come in, and new ones without a restart |
//! | [`trace`] | a span per call, carried on to the next service, exported over OTLP |
//! | [`log`] | the log format, and identifiers that are safe to log |
//! | [`code`] | gRPC codes by their names |

mod bad_request;
mod error;

pub mod code;
pub mod database;
pub mod log;
mod metrics;
mod overload;
pub mod program;
mod server;
pub mod settings;
pub mod tls;
pub mod trace;

pub use bad_request::BadRequest;
pub use error::{StartError, innermost};
pub use overload::overloaded;
pub use program::{ActionError, NoAction, Program};
pub use resilience::Deadline;
pub use server::{MetricsServer, Running, Server};
pub use settings::{ServeSettings, SettingError};
