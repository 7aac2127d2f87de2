//! gRFC A6, case by case. The letter and number at the front of a name is that
//! of the case; the cases are those that the test suites of grpc-go, grpc-java
//! and gRPC's C core have in common, and one that says `differs_on_purpose` is
//! one where they do otherwise. `resilience/src/retry/mod.rs` says why.
//!
//! | file | cases |
//! | --- | --- |
//! | `basic.rs` | R: what is retried, how often, and what the upstream is told |
//! | `commit.rs` | C: when a response, or a request, can no longer be taken back |
//! | `pushback.rs` | P: the upstream names the delay |
//! | `backoff.rs` | B: we do |
//! | `transparent.rs` | X: what the upstream has not seen |
//! | `deadline.rs` | D: cancellation and deadline |
//!
//! Those that need a real connection are in `tests/wire/a6.rs`.

mod backoff;
mod basic;
mod commit;
mod deadline;
mod pushback;
mod transparent;

use std::{sync::Arc, time::Duration};

use proto::user::ValidateUserRequest;
use resilience::{
    Attempts, Backoff, BackoffConfig, Commit, ResilienceConfig, RetryStopped, StopReason,
};
use tonic::Status;

use crate::{
    config, ms,
    upstream::{Client, Reply},
};

/// The policy of most cases: four attempts, 10 ms between them, UNAVAILABLE;
/// final at the head; and time enough for all of it.
fn policy() -> ResilienceConfig {
    let mut config = ResilienceConfig {
        deadline: ms(60_000),
        attempt_timeout: ms(5_000),
        ..config()
    };
    config.retry.max_attempts = 4;
    config.retry.commit = Commit::Headers;
    waits(config, ms(10), ms(10))
}

/// The same with these delays, without jitter.
fn waits(mut config: ResilienceConfig, initial: Duration, max: Duration) -> ResilienceConfig {
    config.retry.backoff = BackoffConfig { initial, max };
    config.policies.backoff = Some(Arc::new(Longest(config.retry.backoff)));
    config
}

/// The longest delay that the dice could make of each.
#[derive(Debug)]
struct Longest(BackoffConfig);

impl Backoff for Longest {
    fn delay(&self, retry: u32, _: f64) -> Duration {
        self.0.delay(retry, 1.0)
    }
}

/// A head that says UNAVAILABLE, and when to come back.
fn pushback(value: &'static str) -> Reply {
    let header = ("grpc-retry-pushback-ms", value);
    Reply::Head(tonic::Code::Unavailable, vec![header])
}

/// One call, and what it took.
async fn call(client: &mut Client) -> Result<Attempts, Status> {
    let request = ValidateUserRequest {
        user_id: "user-123".into(),
    };
    let reply = client.validate_user(request).await?;
    assert!(reply.get_ref().valid);
    Ok(Attempts::of(reply.extensions()))
}

fn stopped(status: &Status) -> Option<StopReason> {
    RetryStopped::of(status).map(RetryStopped::reason)
}

/// `grpc-previous-rpc-attempts` of each attempt, as text.
fn said(previous: &[Option<&str>]) -> Vec<Option<String>> {
    previous
        .iter()
        .map(|value| value.map(str::to_owned))
        .collect()
}
