//! One client of a run: layers around the server, and what can be seen of them.

use std::fmt;

use resilience::{
    Breaker, BreakerState, Rejection, ResilienceConfig, ResilienceLayer,
    layers::{AttemptTimeoutLayer, DeadlineLayer, EdgeLayer, RetryLayer},
};
use tonic::Status;
use tower_layer::Layer as _;

use crate::{
    baselines::{
        breaker::Rules,
        breaker_layer::{self, Circuit},
    },
    caller::{Call, Caller, METHOD, Through, Watched},
    dice::{Purpose, derive},
    upstream::Upstream,
};

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

/// One client.
pub struct Client {
    caller: Box<dyn Caller>,
    breaks: Breaks,
}

/// What opens.
pub(crate) enum Breaks {
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
        Rejection::of(status).is_some() || breaker_layer::is_refusal(status)
    }

    pub(crate) fn of(caller: impl Caller + 'static, breaks: Breaks) -> Self {
        Self {
            caller: Box::new(caller),
            breaks,
        }
    }

    /// The whole stack of this repository.
    pub(crate) fn whole(place: Place<'_>, config: ResilienceConfig) -> (Self, ResilienceLayer) {
        let layer = layer(place, config);
        let service = layer.layer(place.upstream.clone());
        let client = Self::of(Through(service), Breaks::Ours(layer.breaker()));
        (client, layer)
    }

    /// The whole stack, with its breaker out of the way.
    pub(crate) fn unguarded(place: Place<'_>, config: ResilienceConfig) -> Self {
        let (client, layer) = Self::whole(place, config);
        layer.breaker().disable();
        Self {
            breaks: Breaks::Never,
            ..client
        }
    }

    /// Our layers, composed by hand, with another library's breaker in the place of ours.
    pub(crate) fn other(place: Place<'_>, config: ResilienceConfig, rules: Rules) -> Self {
        let upstream = resilience::Upstream::new(&name(place), seeded(place, config))
            .expect("the settings of a policy were checked before");
        let circuit = Circuit::new(rules);
        let service = EdgeLayer.layer(place.upstream.clone());
        let service = AttemptTimeoutLayer::new(&upstream).layer(service);
        let service = circuit.layer(service);
        let service = RetryLayer::new(&upstream).layer(service);
        let service = DeadlineLayer::new(&upstream).layer(service);
        Self::of(Through(service), Breaks::Other(circuit))
    }

    /// The same, for a policy that must be told when calls begin and end.
    pub(crate) fn watched(
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

pub(crate) fn layer(place: Place<'_>, config: ResilienceConfig) -> ResilienceLayer {
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
