//! How the client of the user service is doing, for whoever operates it.
//!
//! | file | what for |
//! | --- | --- |
//! | `service.rs` | in the running service: answers `admin.v1.Admin/Status` |
//! | `text.rs` | the answer as people read it |
//!
//! This file is the other end: `order-service status` asks, and prints.
//!
//! The question has a port of its own, on the loopback address: the metrics port
//! serves metrics and nothing else, and what is on the gRPC port is for those
//! who order. It looks and changes nothing, which is why it may be there without
//! being switched on; `ADMIN_PORT=off` switches it off.

mod service;
mod text;

use std::net::{Ipv4Addr, SocketAddr};

use clap::{Args, Subcommand};
use proto::admin::v1::{StatusRequest, admin_client::AdminClient};
use service_kit::{ActionError, SettingError, code, program, settings::AdminPort};
use tonic::transport::{Channel, Endpoint};

pub(crate) use service::StatusService;

/// What this program can be asked to do, beside serving.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Asks the service that runs on this machine how its client is doing: for
    /// each upstream the state of the circuit breaker and why it last tripped,
    /// the retry budget, what is in flight and waiting, and the last transitions
    /// with their times (UTC). Exits with 0, or with 1 when nothing answers
    /// within 1.5 seconds.
    Status(Asked),
}

/// Whom to ask.
#[derive(Debug, Args)]
pub struct Asked {
    /// Where the service answers; by default at ADMIN_PORT of 127.0.0.1.
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<SocketAddr>,
}

/// The answer of a running service, as text.
///
/// # Errors
/// There is nothing to ask, or nothing answers.
pub(crate) fn ask(port: AdminPort, asked: &Asked) -> Result<String, ActionError> {
    let address = match (asked.address, port) {
        (Some(address), _) => address,
        (None, AdminPort::Port(port)) if port != 0 => (Ipv4Addr::LOCALHOST, port).into(),
        (None, AdminPort::Port(_)) => {
            let rule = "does not say where to ask: name a port, or use --address";
            return Err(SettingError::new("ADMIN_PORT", 0, rule).into());
        }
        (None, AdminPort::Off) => {
            let rule = "leaves nothing to ask: a service with this setting has no status";
            return Err(SettingError::new("ADMIN_PORT", "off", rule).into());
        }
    };
    let status = program::ask(async {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        let channel: Channel = endpoint
            .connect()
            .await
            .map_err(|_| "cannot connect: is it running, with this ADMIN_PORT?".to_owned())?;
        AdminClient::new(channel)
            .status(StatusRequest {})
            .await
            .map_err(|status| format!("{}: {}", code::name(status.code()), status.message()))
    });
    match status {
        Ok(answer) => Ok(text::of(&answer.into_inner())),
        Err(reason) => Err(ActionError::Failed(format!(
            "no status from {address}: {reason}"
        ))),
    }
}
