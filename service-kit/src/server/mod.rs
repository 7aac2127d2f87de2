//! The ports of a service: gRPC on one, metrics on another, and a third for
//! whoever operates it, when it has one.
//!
//! [`Server::open`] takes the metrics port first, so that a service which
//! cannot be watched does not serve; [`Server::serve`] takes the gRPC port last,
//! when there is something behind it. Beside the services that it is given, a
//! server has health (`grpc.health.v1`) and reflection (v1, and v1alpha, which
//! most clients still speak).
//!
//! ```text
//! accept        a bounded number of connections that begin in time, over TLS where that is set
//! call metrics  every call counts, whatever happens inside
//! deadline      the caller's own, as DEADLINE_EXCEEDED
//! shed          a bounded number at once; what is too late is not begun
//! routes        health, reflection, services
//! ```

mod admin;
mod connections;
mod listen;
mod reflection;
mod running;
mod scrape;
mod secured;
mod shed;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use futures_util::Stream;
use http::Request;
use resilience::InboundDeadlineLayer;
use tokio::{sync::watch, task::JoinSet};
use tonic::{
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tonic_health::ServingStatus;

pub use running::Running;

use crate::{
    ServeSettings, SettingError, StartError,
    metrics::{self, CallMetricsLayer, Hook, Registry},
    tls::Acceptor,
};
use admin::AdminServer;
use connections::Connections;
pub use scrape::MetricsServer;
use secured::Secured;
use shed::ShedLayer;

/// Calls that one connection may have in flight; more wait at the client.
/// hyper's default of 200 is what one client at 200 calls/s has in flight when
/// its calls take a second, which is when it matters.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Calls of one connection that may be reset before they were begun. h2 closes
/// the connection at 20, as under attack; but that is also what a service
/// finds when it was stopped for a second, and its clients gave up meanwhile.
const RESETS_PENDING_MAX: usize = 256;
/// How long a client may stay silent before it is asked whether it is there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long it has to answer that.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that has its metrics port, and not yet its gRPC port.
pub struct Server {
    settings: ServeSettings,
    registry: &'static Registry,
    metrics: MetricsServer,
    admin: Option<AdminServer>,
    routes: RoutesBuilder,
    services: Vec<&'static str>,
    methods: Vec<&'static str>,
    always: Vec<&'static str>,
    hooks: Vec<Hook>,
    needed: JoinSet<()>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Installs the metrics recorder and serves `/metrics`.
    ///
    /// Metrics that are registered before this go nowhere.
    ///
    /// # Errors
    /// [`StartError`]: the settings contradict each other, or the port cannot
    /// be opened.
    pub async fn open(settings: &ServeSettings) -> Result<Self, StartError> {
        settings.validate()?;
        let registry = Registry::of_process()?;
        let metrics = MetricsServer::of_process(settings, registry)?;
        let runtime = metrics::runtime_hook();
        registry.on_scrape(&runtime);
        Ok(Self {
            settings: settings.clone(),
            registry,
            metrics,
            admin: None,
            routes: RoutesBuilder::default(),
            services: Vec::new(),
            methods: Vec::new(),
            always: Vec::new(),
            hooks: vec![runtime],
            needed: JoinSet::new(),
        })
    }

    /// Adds a gRPC service, with its methods (`package.Service/Method`).
    #[must_use]
    pub fn service<S>(mut self, service: S, methods: &'static [&'static str]) -> Self
    where
        S: tower::Service<Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.services.push(S::NAME);
        self.methods.extend(methods);
        self
    }

    /// Adds a gRPC service for operators: its calls are answered however many
    /// others are under way.
    #[must_use]
    pub fn operators<S>(mut self, service: S, methods: &'static [&'static str]) -> Self
    where
        S: tower::Service<Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.always.push(S::NAME);
        self.service(service, methods)
    }

    /// Calls `hook` before each scrape, for as long as the server runs.
    #[must_use]
    pub fn on_scrape(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        let hook: Hook = Arc::new(hook);
        self.registry.on_scrape(&hook);
        self.hooks.push(hook);
        self
    }

    /// Without this the service is of no use: when `part` completes, the server
    /// has [failed](Running::failed).
    #[must_use]
    pub fn needs(mut self, part: impl Future<Output = ()> + Send + 'static) -> Self {
        self.needed.spawn(part);
        self
    }

    /// Serves `service` on `port` of the loopback address, apart from all else:
    /// neither measured, nor in reflection.
    ///
    /// # Errors
    /// [`StartError`]: the port, which `ADMIN_PORT` names, cannot be opened, or
    /// is there for another purpose.
    pub fn admin<S>(mut self, port: u16, service: S) -> Result<Self, StartError>
    where
        S: tower::Service<Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let others = [self.settings.port, self.settings.metrics_port];
        if port != 0 && others.contains(&port) {
            let rule = "must be a port other than PORT and METRICS_PORT";
            return Err(SettingError::new("ADMIN_PORT", port, rule).into());
        }
        let routes = Routes::new(service);
        self.admin = Some(AdminServer::open(port, self.settings.reuse_port, routes)?);
        Ok(self)
    }

    /// Opens the gRPC port and serves. `descriptors` is an encoded
    /// `FileDescriptorSet`; reflection shows of it what is served here.
    ///
    /// # Errors
    /// [`StartError`]: the port cannot be opened, or the descriptors do not
    /// parse.
    pub async fn serve(mut self, descriptors: &[u8]) -> Result<Running, StartError> {
        // Before anybody can knock.
        let tls = Acceptor::new(&self.settings.tls)?;
        let (health, health_service) = tonic_health::server::health_reporter();
        for service in &self.services {
            health
                .set_service_status(service, ServingStatus::Serving)
                .await;
        }
        let (v1, v1alpha) = reflection::services(descriptors, &self.services)?;
        self.routes
            .add_service(health_service)
            .add_service(v1)
            .add_service(v1alpha);

        let address = self.settings.grpc();
        let failed = |error| StartError::listen("PORT", address, error);
        let listener = listen::listen(address, self.settings.reuse_port).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let (cut, cut_seen) = watch::channel(());
        let (drain, drain_seen) = watch::channel(());
        let connections = Connections::new(cut_seen);
        let server = serve(
            self.routes.routes().prepare(),
            CallMetricsLayer::new(self.methods),
            ShedLayer::new(self.settings.in_flight_max, self.always),
            connections.clone().incoming(listener, tls),
            drain_seen,
        );

        Ok(Running::start(running::Parts {
            address,
            drain_timeout: self.settings.drain_timeout,
            connections,
            services: self.services,
            health,
            drain,
            cut,
            grpc: tokio::spawn(server),
            metrics: self.metrics,
            admin: self.admin,
            hooks: self.hooks,
            needed: self.needed,
        }))
    }
}

/// Serves until `drain` changes (or its sender is gone), and then until the
/// last connection has closed.
async fn serve(
    routes: Routes,
    measure: CallMetricsLayer,
    shed: ShedLayer,
    incoming: impl Stream<Item = io::Result<Secured>>,
    mut drain: watch::Receiver<()>,
) {
    let served = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_PENDING_MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .layer(measure)
        .layer(InboundDeadlineLayer)
        .layer(shed)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            let _ = drain.changed().await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the gRPC server failed");
    }
}
