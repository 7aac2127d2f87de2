//! The admin port: for whoever is on this machine, and nobody else.
//!
//! It listens on the loopback address, whatever the service does: who may log
//! in here may look. In a container that is who may run a program inside it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::service::Routes;

use super::connections::Connections;
use crate::StartError;

/// Serves the admin port until it is dropped.
#[derive(Debug)]
pub(super) struct AdminServer {
    address: SocketAddr,
    task: JoinHandle<()>,
    /// Its end cuts the connections.
    _cut: watch::Sender<()>,
}

impl AdminServer {
    pub(super) async fn open(port: u16, routes: Routes) -> Result<Self, StartError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listen = |error| StartError::listen("ADMIN_PORT", address, error);
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let (cut, cut_seen) = watch::channel(());
        let incoming = Connections::new(cut_seen).incoming(listener, None);
        let task = tokio::spawn(async {
            let served = tonic::transport::Server::builder()
                .add_routes(routes)
                .serve_with_incoming(incoming)
                .await;
            if let Err(error) = served {
                tracing::error!(%error, "the admin server failed");
            }
        });
        Ok(Self {
            address,
            task,
            _cut: cut,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
