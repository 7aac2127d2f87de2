//! The metrics port: `/metrics`, and nothing else.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};

use super::{connections::Connections, listen::listen};
use crate::{ServeSettings, StartError, metrics::Registry};

/// All the time that a connection has, which is for one page.
const PAGE_MAX: Duration = Duration::from_secs(10);
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
        let connections = Connections::new(cut_seen);
        let serve = tokio::spawn(serve(listener, connections, router));
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
        let mut server = listen(address, settings.reuse_port)
            .and_then(|listener| Self::on(listener, || registry.render()))
            .map_err(|error| StartError::listen("METRICS_PORT", address, error))?;
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

/// Serves one page on each connection.
async fn serve(listener: TcpListener, connections: Connections, router: Router) {
    let mut page = http1::Builder::new();
    page.keep_alive(false);
    loop {
        let (connection, _) = connections.accept(&listener).await;
        let router = TowerToHyperService::new(router.clone());
        let served = page.serve_connection(TokioIo::new(connection), router);
        // It may fail, or be too slow: whoever wants the page comes again.
        tokio::spawn(timeout(PAGE_MAX, served));
    }
}
