//! The clients: ours, and those it is compared with.

use std::{fmt, sync::Arc, time::Duration};

use resilience::{LimitConfig, Policies, ResilienceConfig, RetryBudget};
use tower_layer::Layer as _;

use crate::{
    baselines::{
        active::EnvoyBudget,
        breaker::{POLLY, RESILIENCE4J, TOWER_RESILIENCE},
        budgets::{AwsQuota, FinagleBudget, GrpcThrottle, Unlimited},
    },
    caller::Through,
    client::{Breaks, Client, Place, layer},
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
            impatient(),
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

/// The same, with so little time for a call that it may run out during a retry.
#[must_use]
pub fn impatient() -> Policy {
    let config = ResilienceConfig {
        deadline: Duration::from_millis(400),
        ..ResilienceConfig::default()
    };
    Policy::of_config("deadline-400", "ours, 400 ms for a call", config)
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
        make: Arc::new(|place| Client::other(place, base(budget(Unlimited)), RESILIENCE4J)),
    }
}

fn polly() -> Policy {
    Policy {
        id: "polly",
        title: "three attempts, Polly's breaker",
        source: "Polly v8, CircuitBreakerStrategyOptions: 10 % of at least 100 calls in 30 s, \
                 open 5 s, 1 probe",
        make: Arc::new(|place| Client::other(place, base(budget(Unlimited)), POLLY)),
    }
}

fn tower_resilience() -> Policy {
    Policy {
        id: "tower-res",
        title: "three attempts, tower-resilience's breaker",
        source: "tower-resilience-circuitbreaker 0.14: 50 % of 100 calls, open 30 s, 1 probe",
        make: Arc::new(|place| Client::other(place, base(budget(Unlimited)), TOWER_RESILIENCE)),
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
