//! The whole stack under a generated client, in virtual time.
//!
//! | file | what |
//! | --- | --- |
//! | `upstream.rs` | an upstream in memory that does as it is told |
//! | `deadline.rs` | time |
//! | `../feed` | a service that streams, and its client |
//! | `a6/` | retries, by the cases of gRFC A6 |
//! | `retry.rs` | replay, budget, and who may be retried |
//! | `streaming/` | methods that stream |
//! | `breaker.rs` | the circuit |
//! | `limit.rs` | slots and the queue |
//! | `metrics.rs` | every series, once |
//! | `reuse.rs` | what a call leaves for the next |

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know as such

mod a6;
mod breaker;
mod deadline;
#[path = "../feed/mod.rs"]
mod feed;
mod limit;
mod metrics;
mod retry;
mod reuse;
mod streaming;
mod upstream;

use std::time::Duration;

use proto::user::{self, ValidateUserRequest};
use resilience::ResilienceConfig;
use tonic::Status;

use crate::upstream::Client;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The defaults, with the methods of the user service, and dice that are fixed.
fn config() -> ResilienceConfig {
    let mut config = ResilienceConfig {
        methods: user::METHODS.into(),
        idempotent: user::IDEMPOTENT_METHODS.into(),
        ..ResilienceConfig::default()
    };
    config.retry.seed = Some(1);
    config.breaker.seed = Some(1);
    config
}

/// One call.
async fn validate(client: &mut Client) -> Result<bool, Status> {
    let request = ValidateUserRequest {
        user_id: "user-123".into(),
    };
    client
        .validate_user(request)
        .await
        .map(|reply| reply.into_inner().valid)
}
