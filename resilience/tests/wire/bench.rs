//! The real stack on a real connection, and all that can be seen of it from
//! outside.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use http::{Request, Response};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proto::user::{self, UserRequest, user_service_client::UserServiceClient};
use resilience::{
    Attempts, BreakerState, ConnectConfig, MethodSet, Resilience, ResilienceConfig, ResilienceLayer,
};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

pub(crate) type Client = UserServiceClient<Resilience<Channel>>;

/// Retries that the budget has at the start.
pub(crate) const BUDGET: f64 = 20.0;

/// What may differ from one bench to the next.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) idempotent: bool,
    /// Whether the breaker opens at the first failure, for a moment, and one
    /// probe decides; with retries, which would be more probes, off.
    pub(crate) probing: bool,
    pub(crate) max_attempts: u32,
    pub(crate) deadline: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) connect: ConnectConfig,
}

impl Default for Settings {
    /// Times that only a hang can use up, on a machine however busy.
    fn default() -> Self {
        Self {
            idempotent: false,
            probing: false,
            max_attempts: 3,
            deadline: Duration::from_secs(8),
            attempt_timeout: Duration::from_secs(5),
            connect: ConnectConfig {
                connect_timeout: Duration::from_secs(5),
                ..ConnectConfig::default()
            },
        }
    }
}

/// A generated client on the stack, with a recorder of its own.
pub(crate) struct Bench {
    layer: ResilienceLayer,
    client: Client,
    metrics: PrometheusHandle,
}

impl Bench {
    pub(crate) fn new(address: SocketAddr, settings: &Settings) -> Self {
        let channel = resilience::connect(&address.to_string(), settings.connect.clone())
            .expect("an address is a url");
        Self::on(channel, settings)
    }

    pub(crate) fn on(channel: Channel, settings: &Settings) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let layer = metrics::with_local_recorder(&recorder, || {
            ResilienceLayer::new("wire", config(settings)).expect("the settings keep the rules")
        });
        let client = UserServiceClient::new(layer.layer(channel));
        Self {
            layer,
            client,
            metrics,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Another service under the same stack.
    pub(crate) fn wrap<S>(&self, service: S) -> Resilience<S>
    where
        S: Service<Request<Body>>,
    {
        self.layer.layer(service)
    }

    /// One call.
    pub(crate) async fn call(&mut self) -> Result<Attempts, Status> {
        get(&mut self.client).await
    }

    pub(crate) fn budget_tokens(&self) -> f64 {
        self.layer.budget_tokens()
    }

    /// Attempts that hold a slot.
    pub(crate) fn in_flight(&self) -> usize {
        self.layer.in_flight()
    }

    pub(crate) fn breaker_state(&self) -> BreakerState {
        self.layer.breaker().state()
    }

    /// Lets every call pass from now on.
    pub(crate) fn force_closed(&self) {
        self.layer.breaker().force_closed();
    }

    /// Opens the circuit, and waits until the next call will be a probe.
    pub(crate) async fn trip(&mut self) {
        self.inject(Code::Internal).await;
        assert_eq!(self.breaker_state(), BreakerState::Open);
        tokio::time::sleep(OPEN.mul_f64(1.2)).await;
    }

    /// Successes and failures that the breaker has counted so far.
    ///
    /// All it shows is their ratio. So it is shown a failure and then a
    /// success, on a service that is none, and the two new ratios,
    /// `a = (f + 1) / (n + 1)` and `b = (f + 1) / (n + 2)`, are solved for the
    /// counts before.
    pub(crate) async fn counted(&self) -> Counted {
        self.inject(Code::Internal).await;
        let a = self.layer.breaker().failure_ratio();
        self.inject(Code::Ok).await;
        let b = self.layer.breaker().failure_ratio();

        let all = (2.0 * b - a) / (a - b);
        let failures = a * (all + 1.0) - 1.0;
        Counted {
            successes: whole(all - failures),
            failures: whole(failures),
        }
    }

    /// A call to a service that answers `code`, counted by the same breaker.
    async fn inject(&self, code: Code) {
        let service = service_fn(move |_: Request<Body>| async move {
            let mut response = Response::new(Body::empty());
            response
                .headers_mut()
                .insert("grpc-status", (code as i32).into());
            Ok::<_, Infallible>(response)
        });
        let request = Request::new(Body::empty());
        let _ = self.wrap(service).oneshot(request).await;
    }

    /// The counter, over all labels but the one whose values are shown.
    pub(crate) fn counter(&self, name: &str, label: &str) -> Vec<(String, usize)> {
        let text = self.metrics.render();
        let mut values = Vec::new();
        for line in text.lines().filter(|line| line.starts_with(name)) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let wanted = format!("{label}=\"");
            let shown = series
                .split_once(&wanted)
                .and_then(|(_, rest)| rest.split('"').next())
                .unwrap_or_default();
            match value.parse() {
                Ok(0) | Err(_) => {}
                Ok(value) => values.push((shown.to_owned(), value)),
            }
        }
        values
    }

    /// Attempts sent, by the stack's own account.
    pub(crate) fn attempts(&self) -> usize {
        self.counter("grpc_client_attempt_started_total", "grpc_method")
            .iter()
            .filter(|(method, _)| method != "other")
            .map(|(_, count)| count)
            .sum()
    }
}

/// One call, on any client.
pub(crate) async fn get(client: &mut Client) -> Result<Attempts, Status> {
    let request = UserRequest {
        user_id: "user".into(),
    };
    let reply = client.get_user(request).await?;
    assert_eq!(reply.get_ref().user_id, "user", "nobody sent that");
    Ok(Attempts::of(reply.extensions()))
}

/// What a breaker has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) successes: usize,
    pub(crate) failures: usize,
}

/// How long a circuit that was tripped stays open.
const OPEN: Duration = Duration::from_millis(1);

fn config(settings: &Settings) -> ResilienceConfig {
    let idempotent = if settings.idempotent {
        user::IDEMPOTENT_METHODS.into()
    } else {
        MethodSet::default()
    };
    let mut config = ResilienceConfig {
        deadline: settings.deadline,
        attempt_timeout: settings.attempt_timeout,
        methods: user::METHODS.into(),
        idempotent,
        ..ResilienceConfig::default()
    };
    config.retry.max_attempts = settings.max_attempts;
    config.retry.seed = Some(1);
    config.breaker.seed = Some(1);
    if settings.probing {
        config.retry.max_attempts = 1;
        config.breaker.consecutive_failures = 1;
        config.breaker.consecutive_at_least = Duration::ZERO;
        config.breaker.open_initial = OPEN;
        config.breaker.open_max = OPEN;
        config.breaker.probes = 1;
        config.breaker.probes_to_close = 1;
    }
    config
}

/// The nearest whole number; what is far from one shows as too many.
fn whole(value: f64) -> usize {
    (0..1000)
        .find(|count| (f64::from(*count) - value).abs() < 0.01)
        .map_or(usize::MAX, |count| count as usize)
}
