//! A server that runs, and how it stops.

use std::{fmt, net::SocketAddr, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

use super::{admin::AdminServer, connections::Connections, scrape::MetricsServer};
use crate::metrics::Hook;

/// How long connections have to close after that, once they are cut.
const CUT: Duration = Duration::from_secs(1);

/// A service that runs until it is stopped.
///
/// Dropped without [`stop`](Self::stop), it stops at once: connections are cut,
/// and calls in flight with them.
pub struct Running(Parts);

/// What a running server consists of.
pub(super) struct Parts {
    pub(super) address: SocketAddr,
    /// How long calls in flight have to end after a stop was asked for.
    pub(super) drain_timeout: Duration,
    pub(super) connections: Connections,
    pub(super) services: Vec<&'static str>,
    pub(super) health: HealthReporter,
    /// Tells the server to accept no more, and to finish.
    pub(super) drain: watch::Sender<()>,
    /// Tells the connections to end.
    pub(super) cut: watch::Sender<()>,
    pub(super) grpc: JoinHandle<()>,
    pub(super) metrics: MetricsServer,
    pub(super) admin: Option<AdminServer>,
    pub(super) hooks: Vec<Hook>,
    /// What must not end before.
    pub(super) needed: JoinSet<()>,
}

impl Running {
    pub(super) fn start(parts: Parts) -> Self {
        let (grpc, metrics) = (parts.address, parts.metrics.address());
        let admin = parts.admin.as_ref().map(AdminServer::address);
        info!(services = ?parts.services, %grpc, %metrics, admin = admin.map(tracing::field::display), "serving");
        Self(parts)
    }

    /// Where gRPC is served.
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        self.0.address
    }

    /// Where `/metrics` is served.
    #[must_use]
    pub fn metrics_addr(&self) -> SocketAddr {
        self.0.metrics.address()
    }

    /// Where the operator's service is served, if it is.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.0.admin.as_ref().map(AdminServer::address)
    }

    /// Completes when the gRPC server, or what it [needs](super::Server::needs),
    /// has ended without having been asked to.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = &mut self.0.grpc => {}
            Some(_) = self.0.needed.join_next() => {}
        }
    }

    /// Stops: accepts no more, lets the calls in flight finish, and cuts off
    /// what has not ended after `DRAIN_TIMEOUT` (8 s unless it says otherwise).
    /// Never takes longer than a second more.
    ///
    /// In order: health says NOT_SERVING, to those who watch; the gRPC port
    /// closes; clients are told to go elsewhere (GOAWAY); calls end; connections
    /// close; the admin and metrics ports close, last, so that the end can be
    /// seen.
    pub async fn stop(self) {
        let Parts {
            drain_timeout,
            connections,
            services,
            mut health,
            drain,
            cut,
            mut grpc,
            metrics,
            admin,
            hooks,
            ..
        } = self.0;
        let drained = Instant::now() + drain_timeout;

        let names = || [""].into_iter().chain(services.iter().copied());
        for name in names() {
            health
                .set_service_status(name, ServingStatus::NotServing)
                .await;
        }
        drop(drain);
        // Ends the watches, once they have seen the above: a watch never ends
        // by itself, and would hold its connection open.
        for name in names() {
            health.clear_service_status(name).await;
        }

        if timeout_at(drained, &mut grpc).await.is_err() {
            let open = connections.open();
            warn!("calls did not end within {drain_timeout:?}: cutting off {open} connections");
            drop(cut);
            if timeout_at(drained + CUT, &mut grpc).await.is_err() {
                grpc.abort();
            }
        }
        drop((admin, metrics, hooks));
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("grpc_addr", &self.grpc_addr())
            .field("metrics_addr", &self.metrics_addr())
            .field("admin_addr", &self.admin_addr())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use crate::{ServeSettings, Server};

    #[tokio::test]
    async fn a_server_that_has_lost_what_it_needs_has_failed() {
        let (part, ended) = oneshot::channel::<()>();
        let server = Server::open(&ServeSettings::default()).await.unwrap();
        let server = server.needs(async { drop(ended.await) });
        let mut running = server.serve(&[]).await.unwrap();

        assert!(futures_util::poll!(Box::pin(running.failed())).is_pending());
        drop(part);
        running.failed().await;
    }
}
