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
pub struct MetricsServer {
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
    /// Its end cuts the connections.
    _cut: watch::Sender<()>,
}

impl MetricsServer {
    /// Serves what `page` gives, in Prometheus' text format.
    ///
    /// # Errors
    /// The address cannot be listened on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(
        address: SocketAddr,
        page: impl Fn() -> String + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::on(listen(address, false)?, page)
    }

    fn on(
        listener: TcpListener,
        page: impl Fn() -> String + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let text = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        let router = Router::new().route("/metrics", get(async move || (text, page())));
        let (cut, cut_seen) = watch::channel(());
        let port = Port {
            listener,
            connections: Connections::new(cut_seen),
        };
        let serve = tokio::spawn(async {
            // It has no way to fail: `Port` waits out errors.
            let _ = axum::serve(port, router).await;
        });
        Ok(Self {
            address,
            tasks: vec![serve],
            _cut: cut,
        })
    }

    /// Serves what the recorder of this process holds, and looks after it.
    pub(super) fn of_process(
        settings: &ServeSettings,
        registry: &'static Registry,
    ) -> Result<Self, StartError> {
        let address = settings.metrics();
        let server = listen(address, settings.reuse_port)
            .and_then(|listener| Self::on(listener, || registry.render()));
        let mut server =
            server.map_err(|error| StartError::listen("METRICS_PORT", address, error))?;
        server.tasks.push(tokio::spawn(async {
            let mut ticks = interval(UPKEEP_INTERVAL);
            loop {
                ticks.tick().await;
                registry.upkeep();
            }
        }));
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
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
