//! The admin port: for whoever is on this machine, and nobody else.
//!
//! It listens on the loopback address, whatever the service does: who may log
//! in here may look. In a container that is who may run a program inside it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{sync::watch, task::JoinHandle};
use tonic::service::Routes;

use super::{connections::Connections, listen::listen};
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
    pub(super) fn open(port: u16, reuse_port: bool, routes: Routes) -> Result<Self, StartError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let failed = |error| StartError::listen("ADMIN_PORT", address, error);
        let listener = listen(address, reuse_port).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
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
