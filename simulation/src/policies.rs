//! The clients: ours, and those it is compared with.

use std::{fmt, sync::Arc, time::Duration};

use resilience::{
    Breaker, BreakerState, LimitConfig, Policies, ResilienceConfig, ResilienceLayer, RetryBudget,
    layers::{AttemptTimeoutLayer, DeadlineLayer, EdgeLayer, RetryLayer},
};
use tonic::Status;
use tower_layer::Layer as _;

use crate::{
    baselines::{
        active::EnvoyBudget,
        breaker::{POLLY, RESILIENCE4J, Rules, TOWER_RESILIENCE},
        breaker_layer::{self, Circuit},
        budgets::{AwsQuota, FinagleBudget, GrpcThrottle, Unlimited},
    },
    caller::{Call, Caller, METHOD, Through, Watched},
    dice::{Purpose, derive},
    experiment::DearTimeouts,
    upstream::Upstream,
};

/// How a client behaves.
#[derive(Clone)]
pub struct Policy {
    /// Its name on the command line and in tables.
    pub id: &'static str,
    /// What it does, in a line.
    pub title: &'static str,
    /// Where its rules come from.
    pub source: &'static str,
    make: Arc<dyn Fn(Place<'_>) -> Client + Send + Sync>,
}

/// Where a client stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its number.
    pub index: usize,
    /// The seed of the run.
    pub seed: u64,
    /// What it calls.
    pub upstream: &'a Upstream,
}

impl Policy {
    /// Everything that is compared, ours last.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            none(),
            naive(),
            grpc(),
            finagle(),
            envoy(),
            aws(),
            resilience4j(),
            polly(),
            tower_resilience(),
            budget_alone(),
            ours(),
        ]
    }

    /// Changes to ours that might be better, to be named when they are to be tried.
    #[must_use]
    pub fn experiments() -> Vec<Self> {
        vec![
            small_reserve(),
            dear_timeouts("timeouts-2", "ours, a retry after a timeout costs 2", 2.0),
            dear_timeouts("timeouts-4", "ours, a retry after a timeout costs 4", 4.0),
            dear_timeouts(
                "timeouts-10",
                "ours, a retry after a timeout costs 10",
                10.0,
            ),
            short_open(),
        ]
    }

    /// The policy of this name.
    #[must_use]
    pub fn named(id: &str) -> Option<Self> {
        let mut all = Self::all().into_iter().chain(Self::experiments());
        all.find(|policy| policy.id == id)
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self, index: usize, seed: u64, upstream: &Upstream) -> Client {
        (self.make)(Place {
            index,
            seed,
            upstream,
        })
    }

    /// This repository's client, with `config`, which must be valid.
    #[must_use]
    pub fn of_config(id: &'static str, title: &'static str, config: ResilienceConfig) -> Self {
        Self {
            id,
            title,
            source: "resilience/src/config.rs",
            make: Arc::new(move |place| Client::whole(place, config.clone()).0),
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// This repository's client, with its defaults.
#[must_use]
pub fn ours() -> Policy {
    Policy::of_config(
        "ours",
        "this client, with its defaults",
        ResilienceConfig::default(),
    )
}

/// The same, with its breaker held closed: what the budget does by itself.
#[must_use]
pub fn budget_alone() -> Policy {
    Policy {
        id: "budget",
        title: "this client, with its breaker held closed",
        source: "resilience/src/retry/budget.rs",
        make: Arc::new(|place| {
            let (client, layer) = Client::whole(place, ResilienceConfig::default());
            layer.breaker().force_closed();
            client
        }),
    }
}

/// One attempt.
#[must_use]
pub fn none() -> Policy {
    Policy {
        id: "none",
        title: "one attempt, no retries",
        source: "tonic alone, with a deadline",
        make: Arc::new(|place| {
            let mut config = base(Policies::default());
            config.retry.max_attempts = 1;
            Client::unguarded(place, config)
        }),
    }
}

/// Three attempts, whatever happens.
#[must_use]
pub fn naive() -> Policy {
    Policy {
        id: "naive",
        title: "three attempts, no budget",
        source: "a loop, as most people write it",
        make: Arc::new(|place| Client::unguarded(place, base(budget(Unlimited)))),
    }
}

fn grpc() -> Policy {
    Policy {
        id: "grpc",
        title: "gRPC's throttle, 10 tokens, 0.1 for a success",
        source: "gRFC A6, retryThrottling, with the values of its example",
        make: Arc::new(|place| {
            let throttle = Arc::new(GrpcThrottle::new(10.0, 0.1));
            let policies = Policies {
                budget: Some(Arc::clone(&throttle) as _),
                classifier: Some(throttle),
                ..Policies::default()
            };
            Client::unguarded(place, base(policies))
        }),
    }
}

fn finagle() -> Policy {
    Policy {
        id: "finagle",
        title: "Finagle's and Linkerd's budget, 20 % and 10 a second",
        source: "twitter/finagle, RetryBudget.scala: ttl 10 s, minRetriesPerSec 10, \
                 percentCanRetry 0.2",
        make: Arc::new(|place| {
            let budget = Arc::new(FinagleBudget::default());
            let policies = Policies {
                budget: Some(Arc::clone(&budget) as _),
                ..Policies::default()
            };
            let client = Client::unguarded(place, base(policies));
            client.watched(move || budget.call(), || ())
        }),
    }
}

fn envoy() -> Policy {
    Policy {
        id: "envoy",
        title: "Envoy's budget, 20 % of what is active, 3 at least",
        source: "envoyproxy/envoy, resource_manager_impl.h: budget_percent 20, \
                 min_retry_concurrency 3",
        make: Arc::new(|place| {
            let budget = Arc::new(EnvoyBudget::default());
            let policies = Policies {
                budget: Some(Arc::clone(&budget) as _),
                ..Policies::default()
            };
            let layer = layer(place, base(policies));
            layer.breaker().disable();
            let counting = budget.counting(place.upstream.clone());
            let client = Client::of(Through(layer.layer(counting)), Breaks::Never);
            client.watched(|| (), move || budget.call_over())
        }),
    }
}

fn aws() -> Policy {
    Policy {
        id: "aws",
        title: "the AWS SDKs' quota, 500 tokens, 14 for a retry",
        source: "AWS SDKs and Tools Reference Guide, retry behavior: standard mode with \
                 AWS_NEW_RETRIES_2026",
        make: Arc::new(|place| Client::unguarded(place, base(budget(AwsQuota::default())))),
    }
}

fn resilience4j() -> Policy {
    Policy {
        id: "r4j",
        title: "three attempts, resilience4j's breaker",
        source: "resilience4j, CircuitBreakerConfig: 50 % of 100 calls, open 60 s, 10 probes",
        make: Arc::new(|place| Client::other(place, RESILIENCE4J)),
    }
}

fn polly() -> Policy {
    Policy {
        id: "polly",
        title: "three attempts, Polly's breaker",
        source: "Polly v8, CircuitBreakerStrategyOptions: 10 % of at least 100 calls in 30 s, \
                 open 5 s, 1 probe",
        make: Arc::new(|place| Client::other(place, POLLY)),
    }
}

fn tower_resilience() -> Policy {
    Policy {
        id: "tower-res",
        title: "three attempts, tower-resilience's breaker",
        source: "tower-resilience-circuitbreaker 0.14: 50 % of 100 calls, open 30 s, 1 probe",
        make: Arc::new(|place| Client::other(place, TOWER_RESILIENCE)),
    }
}

fn dear_timeouts(id: &'static str, title: &'static str, cost: f64) -> Policy {
    Policy {
        id,
        title,
        source: "simulation/src/experiment.rs",
        make: Arc::new(move |place| {
            let budget = Arc::new(DearTimeouts::new(cost));
            let config = ResilienceConfig {
                policies: Policies {
                    budget: Some(Arc::clone(&budget) as _),
                    classifier: Some(budget),
                    ..Policies::default()
                },
                ..ResilienceConfig::default()
            };
            Client::whole(place, config).0
        }),
    }
}

fn small_reserve() -> Policy {
    let mut config = ResilienceConfig::default();
    config.budget.capacity = 6;
    Policy::of_config("capacity-6", "ours, a budget of 6 tokens", config)
}

fn short_open() -> Policy {
    let mut config = ResilienceConfig::default();
    config.breaker.open_initial = Duration::from_millis(250);
    config.breaker.open_max = Duration::from_millis(500);
    Policy::of_config(
        "open-500",
        "ours, the circuit open for 250 to 500 ms",
        config,
    )
}

fn budget(budget: impl RetryBudget + 'static) -> Policies {
    Policies {
        budget: Some(Arc::new(budget)),
        ..Policies::default()
    }
}

/// What the baselines have in common: our times, attempts and delays, so that only the rule
/// differs, and no concurrency limit, which none of them has by default.
fn base(policies: Policies) -> ResilienceConfig {
    ResilienceConfig {
        policies,
        limit: LimitConfig {
            concurrency: 1_000_000,
            ..LimitConfig::default()
        },
        ..ResilienceConfig::default()
    }
}

/// One client.
pub struct Client {
    caller: Box<dyn Caller>,
    breaks: Breaks,
}

/// What opens.
enum Breaks {
    Never,
    Ours(Breaker),
    Other(Circuit),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a call.
    pub fn call(&self) -> Call {
        self.caller.call()
    }

    /// Whether its circuit is anything but closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match &self.breaks {
            Breaks::Never => false,
            Breaks::Ours(breaker) => matches!(
                breaker.state(),
                BreakerState::Open | BreakerState::HalfOpen | BreakerState::ForcedOpen
            ),
            Breaks::Other(circuit) => !circuit.is_closed(),
        }
    }

    /// Whether `status` is a refusal of its own.
    #[must_use]
    pub fn refused(status: &Status) -> bool {
        resilience::Rejection::of(status).is_some() || breaker_layer::is_refusal(status)
    }

    fn of(caller: impl Caller + 'static, breaks: Breaks) -> Self {
        Self {
            caller: Box::new(caller),
            breaks,
        }
    }

    /// The whole stack of this repository.
    fn whole(place: Place<'_>, config: ResilienceConfig) -> (Self, ResilienceLayer) {
        let layer = layer(place, config);
        let service = layer.layer(place.upstream.clone());
        let client = Self::of(Through(service), Breaks::Ours(layer.breaker()));
        (client, layer)
    }

    /// The whole stack, with its breaker out of the way.
    fn unguarded(place: Place<'_>, config: ResilienceConfig) -> Self {
        let (client, layer) = Self::whole(place, config);
        layer.breaker().disable();
        Self {
            breaks: Breaks::Never,
            ..client
        }
    }

    /// Our layers, composed by hand, with another library's breaker in the place of ours.
    fn other(place: Place<'_>, rules: Rules) -> Self {
        let upstream =
            resilience::Upstream::new(&name(place), seeded(place, base(budget(Unlimited))))
                .expect("the settings of baselines are valid");
        let circuit = Circuit::new(rules);
        let service = EdgeLayer.layer(place.upstream.clone());
        let service = AttemptTimeoutLayer::new(&upstream).layer(service);
        let service = circuit.layer(service);
        let service = RetryLayer::new(&upstream).layer(service);
        let service = DeadlineLayer::new(&upstream).layer(service);
        Self::of(Through(service), Breaks::Other(circuit))
    }

    /// The same, for a policy that must be told when calls begin and end.
    fn watched(
        self,
        begins: impl Fn() + Send + Sync + 'static,
        ends: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            caller: Box::new(Watched::new(self.caller, begins, ends)),
            ..self
        }
    }
}

fn layer(place: Place<'_>, config: ResilienceConfig) -> ResilienceLayer {
    ResilienceLayer::new(&name(place), seeded(place, config))
        .expect("the settings of a policy were checked before")
}

fn name(place: Place<'_>) -> String {
    format!("client {}", place.index)
}

/// `config` for the method that is called, with all dice from the seed of the run.
fn seeded(place: Place<'_>, mut config: ResilienceConfig) -> ResilienceConfig {
    config.idempotent = [METHOD].into();
    config.retry.seed = Some(derive(place.seed, Purpose::Retry, place.index));
    config.breaker.seed = Some(derive(place.seed, Purpose::Breaker, place.index));
    config
}
