//! What is written down of a breaker's transitions: for people, for metrics and
//! for subscribers.

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::broadcast, time::Instant};

use super::{
    state::{BreakerState, Transition, TransitionReason},
    transitions::Transitions,
};
use crate::metrics::BreakerHandles;

/// Transitions that are remembered, and that wait for a slow subscriber. At
/// most six happen in a second; 32 are the last five seconds of the worst
/// outage, and the whole of most.
pub(super) const REMEMBERED: usize = 32;

#[derive(Debug, Clone)]
pub(super) struct Record {
    upstream: String,
    handles: BreakerHandles,
    history: VecDeque<Transition>,
    last_trip: Option<Transition>,
    /// Time spent in each state before the current one, by its place.
    spent: [Duration; BreakerState::ALL.len()],
    state: BreakerState,
    since: Instant,
    /// Since there is someone to tell.
    subscribers: Option<broadcast::Sender<Transition>>,
}

impl Record {
    pub(super) fn new(upstream: &str, now: Instant) -> Self {
        Self {
            upstream: upstream.to_owned(),
            handles: BreakerHandles::new(upstream),
            history: VecDeque::with_capacity(REMEMBERED),
            last_trip: None,
            spent: Default::default(),
            state: BreakerState::Closed,
            since: now,
            subscribers: None,
        }
    }

    pub(super) fn note(&mut self, transition: Transition) {
        let Transition {
            from,
            to,
            reason,
            at,
        } = transition;
        self.spent[from.place()] += at.saturating_duration_since(self.since);
        self.state = to;
        self.since = at;
        // Probes that fail prolong a trip.
        if to == BreakerState::Open && from != BreakerState::HalfOpen {
            self.last_trip = Some(transition);
        }
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back(transition);
        self.handles.transition(from, to, reason);
        self.handles.entered(to);
        self.log(transition);
        if let Some(subscribers) = &self.subscribers {
            // An error means that all of them have gone.
            let _ = subscribers.send(transition);
        }
    }

    pub(super) fn last_trip(&self) -> Option<Transition> {
        self.last_trip
    }

    pub(super) fn history(&self) -> Vec<Transition> {
        self.history.iter().copied().collect()
    }

    pub(super) fn subscribe(&mut self) -> Transitions {
        let subscribers = self
            .subscribers
            .get_or_insert_with(|| broadcast::Sender::new(REMEMBERED));
        Transitions::new(subscribers.subscribe())
    }

    /// Brings the gauges up to date.
    pub(super) fn refresh_metrics(&self, failure_ratio: f64, now: Instant) {
        self.handles.refresh(failure_ratio, |state| {
            let open_ended = if state == self.state {
                now.saturating_duration_since(self.since)
            } else {
                Duration::ZERO
            };
            self.spent[state.place()] + open_ended
        });
    }

    fn log(&self, transition: Transition) {
        let upstream = &self.upstream;
        let (from, to) = (transition.from.as_str(), transition.to.as_str());
        let reason = transition.reason.as_str();
        match transition.reason {
            TransitionReason::FailureRatio
            | TransitionReason::ConsecutiveFailures
            | TransitionReason::ProbesFailed
            | TransitionReason::ProbesSilent
            | TransitionReason::Manual => {
                tracing::warn!(upstream, from, to, reason, "circuit breaker");
            }
            TransitionReason::OpenExpired | TransitionReason::ProbesSucceeded => {
                tracing::info!(upstream, from, to, reason, "circuit breaker");
            }
        }
    }
}
