//! The user service, with faults to order.
//!
//! Answers who may order, from a handful of users in memory. What makes it
//! worth running is [`chaos`]: told to, it fails, slows down, hangs or runs out
//! of capacity, in ways that can be repeated.

pub mod chaos;

mod metrics;
mod service;
mod settings;
mod users;

use proto::{chaos::v1::chaos_server::ChaosServer, user::user_service_server::UserServiceServer};
use service_kit::{ActionError, NoAction, Program, Running, ServeSettings, Server, StartError};

pub use settings::Settings;

use chaos::{ChaosApi, ChaosSwitch};
use service::Service;

/// Starts the service, in this process.
///
/// # Errors
/// [`StartError`], which names the setting at fault.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let server = Server::open(&settings.serve).await?;
    metrics::describe();
    let switch = ChaosSwitch::new(settings.chaos);
    let users = UserServiceServer::new(Service::new(&switch));
    let mut server = server.service(users, proto::user::METHODS);
    if settings.chaos_api {
        server = server.service(
            ChaosServer::new(ChaosApi::new(switch)),
            proto::chaos::v1::METHODS,
        );
    }
    server.serve(proto::FILE_DESCRIPTOR_SET).await
}

impl Program for Settings {
    const NAME: &'static str = "user-service";
    const ABOUT: &'static str = "The user service, with faults to order";
    const PORTS: (u16, u16) = (50051, 9051);

    type Action = NoAction;

    fn serve(&self) -> &ServeSettings {
        &self.serve
    }

    async fn start(self) -> Result<Running, StartError> {
        start(self).await
    }

    fn act(self, action: NoAction) -> Result<String, ActionError> {
        match action {}
    }
}
