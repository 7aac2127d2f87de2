//! Refuses calls to an upstream that has been failing.
//!
//! | file | what |
//! | --- | --- |
//! | `state.rs` | the words: states, transitions, reasons |
//! | `machine.rs` | when the state changes: no clock, no lock, no dice |
//! | `snapshot.rs` | what can be answered without changing it |
//! | `window.rs` | what the recent past says, and how sure one can be |
//! | `run.rs` | failures in a row |
//! | `ring.rs` | counts in buckets of time, in atomics |
//! | `gate.rs` | the state, for reading without the lock |
//! | `circuit.rs` | all of this for many threads at once, and why it is right |
//! | `record.rs` | what is written down of each transition |
//! | `transitions.rs` | transitions for subscribers |
//! | `handle.rs` | the breaker of one upstream, shared by all its calls |

mod circuit;
mod gate;
mod handle;
mod machine;
mod record;
mod ring;
mod run;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod transitions;
mod window;

use std::{collections::BTreeMap, iter, sync::Arc, time::Duration};

use http::Request;
use tokio::time::Instant;
use tonic::body::Body;
use tower_layer::Layer;

pub use self::{
    handle::{Breaker, Pass},
    state::{BreakerState, Transition, TransitionReason},
    transitions::Transitions,
};
use self::{snapshot::Permit, window::STRETCH_MAX};
use crate::{
    classify::{self, Outcome, Time},
    config::{ConfigError, ordered, positive, require},
    context::Context,
    guard::{Admission, End, Guarded, Over, Policy},
    metrics::Rejections,
    upstream::{PerMethod, Upstream},
};

/// When the circuit opens, and when it closes again.
///
/// # Defaults
///
/// | field | default | reason |
/// | --- | --- | --- |
/// | `failure_ratio` | 0.8 | a breaker at 0.5 makes a partial outage total: at 45 % failures it keeps 22 of 55 points of goodput |
/// | `window` | 2 s | recovers in 2 s from an overload where one of 5 s takes 4 |
/// | `consecutive_failures`, `consecutive_at_least` | 50 in a row, over 250 ms | a hang at 500 calls/s opens it in 0.5 s instead of 1.7 s; at 75 % failures such a run is expected once in 4 hours; a burst of 100 ms does not open it |
/// | `open_initial`, `open_max` | 0.5 s, 1 s | with a cap of 10 s, recovery after a long outage takes up to 11 s; with 1 s, 1.14 s at worst, for at most 5 probes a second |
/// | `healthy_after` | 10 s | a trip soon after closing is the same trouble, and keeps doubling |
/// | `probes`, `probes_to_close` | 2 of 5 | 3 of 3 makes a false trip stick: an upstream that answers 25 % passes it in 1.6 % of rounds, 2 of 5 in 37 % |
/// | `probe_timeout` | 1 s | as long as a call may take; it is made at least the longest deadline of any method that the breaker is for, and of a streaming method the time to its first message |
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// Opens when the window is sure that at least this share of attempts
    /// fails; more than 0, at most 0.99. "Sure" is the lower end of Wilson's
    /// interval at z = 2.58, so that it takes at least 27 attempts at 0.8, 60
    /// at 0.9 and 659 at 0.99; and they must cover half of the window, because
    /// failures are often known at once and the successes of the same moment
    /// are not.
    pub failure_ratio: f64,
    /// How far the window looks back, in steps of 200 ms; at most 30 s. While
    /// it holds fewer than 30 attempts, or hardly more than it takes to be sure,
    /// it is stretched, to 30 s, so that a client of a few calls a second is
    /// protected too.
    pub window: Duration,
    /// Opens on this many failures in a row, at least 1...
    pub consecutive_failures: u32,
    /// ...when the first of them settled at least this long ago; at most 15 s.
    /// All must lie within 30 s.
    pub consecutive_at_least: Duration,
    /// How long it stays open at first, ±20 %.
    pub open_initial: Duration,
    /// How long it stays open at most, ±20 %; each trip doubles the time.
    pub open_max: Duration,
    /// After this long closed, the open time starts at `open_initial` again.
    pub healthy_after: Duration,
    /// Probes that a half-open circuit lets through in one round; at least 1.
    pub probes: u32,
    /// Successes among them that close it; 1 to `probes`. It opens again as
    /// soon as so many have failed that these cannot be reached.
    pub probes_to_close: u32,
    /// Probes that have not been heard of for this long have failed.
    pub probe_timeout: Duration,
    /// Successes that take longer than this count as failures: to any effect,
    /// it is shorter than the attempt timeout. Streaming methods may last as
    /// long as they like. `None`: only the result counts.
    pub slow_after: Option<Duration>,
    /// Seeds the jitter of the open time. `None`: at random.
    pub seed: Option<u64>,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failure_ratio: 0.8,
            window: Duration::from_secs(2),
            consecutive_failures: 50,
            consecutive_at_least: Duration::from_millis(250),
            open_initial: Duration::from_millis(500),
            open_max: Duration::from_secs(1),
            healthy_after: Duration::from_secs(10),
            probes: 5,
            probes_to_close: 2,
            probe_timeout: Duration::from_secs(1),
            slow_after: None,
            seed: None,
        }
    }
}

impl BreakerConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        require(
            self.failure_ratio > 0.0 && self.failure_ratio <= 0.99,
            "breaker.failure_ratio",
            "more than 0 and at most 0.99",
            self.failure_ratio,
        )?;
        positive("breaker.window", self.window)?;
        ordered(
            "breaker.window",
            self.window,
            "the longest stretch",
            STRETCH_MAX,
        )?;
        require(
            self.consecutive_failures >= 1,
            "breaker.consecutive_failures",
            "at least 1",
            self.consecutive_failures,
        )?;
        ordered(
            "breaker.consecutive_at_least",
            self.consecutive_at_least,
            "half of the longest stretch",
            STRETCH_MAX / 2,
        )?;
        positive("breaker.open_initial", self.open_initial)?;
        positive("breaker.open_max", self.open_max)?;
        ordered(
            "breaker.open_initial",
            self.open_initial,
            "breaker.open_max",
            self.open_max,
        )?;
        positive("breaker.healthy_after", self.healthy_after)?;
        require(
            (1..=1000).contains(&self.probes),
            "breaker.probes",
            "1 to 1000",
            self.probes,
        )?;
        require(
            (1..=self.probes).contains(&self.probes_to_close),
            "breaker.probes_to_close",
            format!("1 to breaker.probes, which is {}", self.probes),
            self.probes_to_close,
        )?;
        positive("breaker.probe_timeout", self.probe_timeout)?;
        self.slow_after
            .map_or(Ok(()), |slow| positive("breaker.slow_after", slow))
    }
}

/// Refuses calls to an upstream that has been failing.
///
/// A failing service recovers sooner when its clients stop calling it, and a
/// caller is better served by a "no" at once than by another timeout. The
/// breaker counts outcomes over a window; when it is sure that most attempts
/// fail it opens, and calls are refused at once until probes succeed.
#[derive(Debug, Clone)]
pub struct BreakerLayer {
    policy: Arc<BreakerPolicy>,
}

impl BreakerLayer {
    /// A breaker for `upstream`, shared by all services that this layer makes,
    /// and one more for each method that is configured to have its own.
    #[must_use]
    pub fn new(upstream: &Upstream) -> Self {
        Self {
            policy: Arc::new(BreakerPolicy::new(upstream)),
        }
    }

    /// The breaker itself: to look at, and to force.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        self.policy.breaker()
    }

    /// The breaker of `method` (`package.Service/Method`), if it has its own.
    #[must_use]
    pub fn breaker_of(&self, method: &str) -> Option<Breaker> {
        self.policy.breaker_of(method)
    }

    /// Brings the gauges up to date: to be called before each scrape.
    /// [`ResilienceLayer`](crate::ResilienceLayer) does it for all its layers.
    pub fn refresh_metrics(&self) {
        self.policy.refresh_metrics();
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        Guarded::new(inner, &self.policy)
    }
}

/// Refuses calls to an upstream that has been failing: see [`BreakerLayer`].
///
/// # Errors
/// [`Rejection::CircuitOpen`](crate::Rejection::CircuitOpen), with the time
/// until the next probe; UNAVAILABLE.
///
/// # Cancellation
/// A dropped attempt returns its permit and counts for nothing, unless its
/// call's deadline had passed, and no message of a stream had come: then
/// somebody stopped waiting for the upstream, and it counts as a failure.
pub type CircuitBreaker<S> = Guarded<S, BreakerPolicy>;

/// What [`BreakerLayer`] does at the start of an attempt.
#[derive(Debug)]
pub struct BreakerPolicy {
    upstream: Upstream,
    breaker: Breaker,
    /// The breakers of methods that have their own.
    own: BTreeMap<String, Breaker>,
    /// The breaker of each method, by its place.
    by_method: PerMethod<Breaker>,
    rejections: Rejections,
}

impl BreakerPolicy {
    pub(crate) fn new(upstream: &Upstream) -> Self {
        let config = upstream.config();
        let breaker = Breaker::of_valid(upstream.name(), patient(&config.breaker, upstream, None));
        let own: BTreeMap<_, _> = config
            .overrides
            .iter()
            .filter_map(|(method, settings)| {
                let config = patient(settings.breaker.as_ref()?, upstream, Some(method));
                let name = format!("{}/{method}", upstream.name());
                Some((method.clone(), Breaker::of_valid(&name, config)))
            })
            .collect();
        let by_method = {
            let (breaker, own) = (breaker.clone(), own.clone());
            PerMethod::new(upstream, move |_, method| {
                own.get(method).unwrap_or(&breaker).clone()
            })
        };
        Self {
            upstream: upstream.clone(),
            breaker,
            own,
            by_method,
            rejections: Rejections::new(upstream.name()),
        }
    }

    pub(crate) fn breaker(&self) -> Breaker {
        self.breaker.clone()
    }

    pub(crate) fn breaker_of(&self, method: &str) -> Option<Breaker> {
        self.own.get(method).cloned()
    }

    pub(crate) fn refresh_metrics(&self) {
        for breaker in iter::once(&self.breaker).chain(self.own.values()) {
            breaker.refresh_metrics();
        }
    }
}

/// A probe may take as long as a call, or where that has no end as an attempt:
/// one that is still under way must not be taken for lost, or a slow upstream
/// would never be let back in.
fn patient(config: &BreakerConfig, upstream: &Upstream, method: Option<&str>) -> BreakerConfig {
    let longest = match method {
        Some(method) => upstream.config().method_policy(method).patience(),
        None => upstream.config().longest_patience(),
    };
    BreakerConfig {
        probe_timeout: config.probe_timeout.max(longest.unwrap_or_default()),
        ..config.clone()
    }
}

/// What the breaker remembers of an attempt.
#[derive(Debug, Default)]
pub struct Asked {
    /// `None` once it is settled.
    permit: Option<Permit>,
    /// Whether it streams, and the first message has come.
    streams: bool,
}

impl Policy for BreakerPolicy {
    type Leave = Asked;

    #[inline]
    fn admit(
        &self,
        asked: &mut Asked,
        context: &mut Context,
        request: &mut Request<Body>,
    ) -> Admission {
        let method = context.method(&self.upstream, request);
        match self.by_method.get(method).permit(context.started) {
            Ok(permit) => {
                *asked = Asked {
                    permit: Some(permit),
                    streams: false,
                };
                Admission::Admitted
            }
            Err(rejection) => Admission::Refused(self.rejections.reject(rejection)),
        }
    }

    /// A stream that has begun is an upstream that works: a probe has shown
    /// what it was sent for. Other attempts count at their true end.
    #[inline]
    fn message(&self, asked: &mut Asked, context: &Context) {
        let method = context.known_method();
        if !self.upstream.policy(method).streaming {
            return;
        }
        asked.streams = true;
        if let Some(probe) = asked.permit.take_if(|permit| permit.is_probe()) {
            let breaker = self.by_method.get(method);
            breaker.settle(probe, Outcome::Success, as_long_as_it_likes, Instant::now());
        }
    }

    #[inline]
    fn ended(&self, asked: &mut Asked, context: &Context, end: End<'_>, over: Over) {
        let Some(permit) = asked.permit.take() else {
            return;
        };
        let method = context.known_method();
        let policy = self.upstream.policy(method);
        let time = Time {
            left: context.left(),
            full: policy.attempt_time(),
        };
        let outcome = match end {
            End::Ok => Outcome::Success,
            // It would have gone on: that its time was up says nothing.
            End::Failed(status) if asked.streams && classify::is_out_of_time(status) => {
                Outcome::Ignored
            }
            End::Dropped if asked.streams => Outcome::Ignored,
            End::Failed(status) => {
                let outcome = self.upstream.outcome(status);
                classify::unless_starved(outcome, status, time)
            }
            End::Dropped => classify::dropped(time, over.took),
        };
        let took = if policy.streaming {
            as_long_as_it_likes()
        } else {
            over.took
        };
        let breaker = self.by_method.get(method);
        breaker.settle(permit, outcome, || took, over.at);
    }
}

/// How slow a stream is: how long it lasts says nothing about that.
fn as_long_as_it_likes() -> Duration {
    Duration::ZERO
}
