//! The order service: creates orders, after asking the user service who is
//! ordering.
//!
//! | file | what for |
//! | --- | --- |
//! | `service.rs` | what happens to a request, in order |
//! | `limits.rs` | what each field may hold, and what an order costs |
//! | `store/` | the orders that were created, each once |
//! | `page.rs` | the token of a page |
//! | `client.rs` | asks the user service: the file to read for how to use `resilience` |
//! | `status/` | how that client is doing, for whoever operates it |
//! | `settings.rs` | what can be set |
//! | `metrics.rs` | what is counted |

mod client;
mod limits;
mod metrics;
mod page;
mod service;
mod settings;
mod status;
mod store;

use proto::{
    admin::v1::admin_server::AdminServer, order::order_service_server::OrderServiceServer,
};
use service_kit::{
    ActionError, Program, Running, ServeSettings, Server, StartError, database, settings::AdminPort,
};

pub use settings::{ResilienceSettings, Settings, UserServiceTls};

use client::UserClient;
use service::Service;
use status::{Action, StatusService};
use store::Store;

/// Starts the service, in this process.
///
/// It opens its database first, and brings the schema up to date. It does not
/// wait for the user service: it connects when it first asks.
///
/// # Errors
/// [`StartError`], which names the setting at fault.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let mut server = Server::open(&settings.serve).await?;
    let users = UserClient::new(&settings)?;
    let refresh = users.refresh();
    if let AdminPort::Port(port) = settings.admin_port {
        let status = StatusService::new(users.watched());
        server = server.admin(port, AdminServer::new(status))?;
    }
    let store = Store::new(database::open(&settings.database_url, &store::STEPS).await?);
    let written = store.ended();
    let orders = OrderServiceServer::new(Service::new(users, store))
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    server
        .on_scrape(refresh)
        .needs(written)
        .service(orders, proto::order::METHODS)
        .serve(proto::FILE_DESCRIPTOR_SET)
        .await
}

impl Program for Settings {
    const NAME: &'static str = "order-service";
    const ABOUT: &'static str =
        "The order service: creates orders, asking the user service through the resilient client";
    const PORTS: (u16, u16) = (50052, 9052);

    type Action = Action;

    fn serve(&self) -> &ServeSettings {
        &self.serve
    }

    async fn start(self) -> Result<Running, StartError> {
        start(self).await
    }

    fn act(self, action: Action) -> Result<String, ActionError> {
        match action {
            Action::Status(asked) => status::ask(self.admin_port, &asked),
        }
    }
}
