//! `admin.v1.Admin`: what a running client can be asked.

use std::time::SystemTime;

use proto::admin::v1::{
    Breaker, StatusRequest, StatusResponse, Transition, Upstream, admin_server::Admin,
};
use resilience::{Breaker as BreakerHandle, Transition as Change};
use service_kit::Program;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{Settings, client::Watched};

/// Shows the client of the user service, when it is the resilient one.
#[derive(Debug)]
pub(crate) struct StatusService {
    watched: Option<Watched>,
    started: Instant,
}

impl StatusService {
    pub(crate) fn new(watched: Option<Watched>) -> Self {
        Self {
            watched,
            started: Instant::now(),
        }
    }
}

#[tonic::async_trait]
impl Admin for StatusService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse {
            program: Settings::NAME.to_owned(),
            up_ms: millis(self.started.elapsed()),
            upstreams: self.watched.iter().map(upstream).collect(),
        }))
    }
}

fn upstream(watched: &Watched) -> Upstream {
    let Watched {
        upstream,
        layer,
        budget,
        limit,
    } = watched;
    Upstream {
        name: (*upstream).to_owned(),
        breaker: Some(breaker(&layer.breaker(), Clock::now())),
        budget_tokens: layer.budget_tokens(),
        budget_capacity: f64::from(budget.capacity),
        in_flight: layer.in_flight() as u64,
        in_flight_max: limit.concurrency as u64,
        queued: layer.queued() as u64,
        queued_max: limit.queue as u64,
    }
}

fn breaker(breaker: &BreakerHandle, clock: Clock) -> Breaker {
    Breaker {
        state: breaker.state().as_str().to_owned(),
        failure_ratio: breaker.failure_ratio(),
        last_trip: breaker.last_trip().map(|change| clock.shown(change)),
        transitions: breaker
            .history()
            .into_iter()
            .map(|change| clock.shown(change))
            .collect(),
    }
}

/// The same moment on two clocks: the one that the breaker goes by, and the one
/// on the wall.
#[derive(Clone, Copy)]
struct Clock {
    instant: Instant,
    wall: SystemTime,
}

impl Clock {
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    fn shown(self, change: Change) -> Transition {
        let ago = self.instant.saturating_duration_since(change.at);
        let at = self.wall.checked_sub(ago).unwrap_or(self.wall);
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
        Transition {
            from: change.from.as_str().to_owned(),
            to: change.to.as_str().to_owned(),
            reason: change.reason.as_str().to_owned(),
            at_unix_ms: millis(since_epoch.unwrap_or_default()),
        }
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
