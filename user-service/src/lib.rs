//! The user service, with faults to order.
//!
//! Answers who may order, from the users in its database. What makes it worth
//! running is [`chaos`]: told to, it fails, slows down, hangs or runs out of
//! capacity, in ways that can be repeated.
//!
//! | file | what for |
//! | --- | --- |
//! | `service.rs` | what happens to a request, in order |
//! | `limits.rs` | what each field may hold |
//! | `store.rs` | the users |
//! | `chaos/` | faults on purpose |
//! | `settings.rs` | what can be set |
//! | `metrics.rs` | what is counted |

pub mod chaos;

mod limits;
mod metrics;
mod service;
mod settings;
mod store;

use proto::{chaos::v1::chaos_server::ChaosServer, user::user_service_server::UserServiceServer};
use service_kit::{
    ActionError, NoAction, Program, Running, ServeSettings, Server, StartError, database,
};

pub use settings::Settings;

use chaos::{ChaosApi, ChaosSwitch};
use service::Service;
use store::Store;

/// Starts the service, in this process.
///
/// It opens its database first, and brings the schema up to date.
///
/// # Errors
/// [`StartError`], which names the setting at fault.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let server = Server::open(&settings.serve).await?;
    metrics::describe();
    let switch = ChaosSwitch::new(settings.chaos);
    let store = Store::new(database::open(&settings.database_url, &store::STEPS).await?);
    let users = UserServiceServer::new(Service::new(store, &switch))
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let mut server = server.service(users, proto::user::METHODS);
    if settings.chaos_api {
        server = server.operators(
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
