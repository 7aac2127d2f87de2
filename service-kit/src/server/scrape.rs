//! The metrics port: `/metrics`, and nothing else.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, routing::get, serve::Listener};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::interval};

use super::{
    connections::{Connection, Connections},
    listen::listen,
};
use crate::{ServeSettings, StartError, metrics::Registry};

/// How often samples are folded into their histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Serves `/metrics` until it is dropped.
#[derive(Debug)]
pub(super) struct MetricsServer {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
    /// Its end cuts the connections.
    _cut: watch::Sender<()>,
}

impl MetricsServer {
    pub(super) fn open(
        settings: &ServeSettings,
        registry: &'static Registry,
    ) -> Result<Self, StartError> {
        let address = settings.metrics();
        let failed = |error| StartError::listen("METRICS_PORT", address, error);
        let listener = listen(address, settings.reuse_port).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let text = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        let router = Router::new().route("/metrics", get(async move || (text, registry.render())));
        let (cut, cut_seen) = watch::channel(());
        let port = Port {
            listener,
            connections: Connections::new(cut_seen),
        };
        let serve = tokio::spawn(async {
            // It has no way to fail: `Port` waits out errors.
            let _ = axum::serve(port, router).await;
        });
        let upkeep = tokio::spawn(async {
            let mut ticks = interval(UPKEEP_INTERVAL);
            loop {
                ticks.tick().await;
                registry.upkeep();
            }
        });
        Ok(Self {
            address,
            tasks: [serve, upkeep],
            _cut: cut,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A listener whose connections are bounded and can be cut.
struct Port {
    listener: TcpListener,
    connections: Connections,
}

impl Listener for Port {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        self.connections.accept(&self.listener).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
