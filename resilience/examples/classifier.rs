//! A classifier, a backoff and a budget of one's own:
//! `cargo run -p resilience --example classifier`.

mod support;

use std::{error::Error, sync::Arc, time::Duration};

use proto::user::{self, ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{
    Backoff, BudgetConfig, Classify, ConnectConfig, GrpcClassifier, Outcome, Policies,
    ResilienceConfig, ResilienceLayer, RetryBudget as _, RetryRule, TokenBucket,
};
use tonic::{Code, Status};
use tower::Layer as _;

/// As gRPC, but ABORTED is retried: this upstream says it of transactions that
/// may well succeed the next time.
#[derive(Debug)]
struct AbortedIsRetried;

impl Classify for AbortedIsRetried {
    fn retry(&self, status: &Status) -> RetryRule {
        match status.code() {
            Code::Aborted => RetryRule::Idempotent,
            _ => GrpcClassifier.retry(status),
        }
    }

    fn outcome(&self, status: &Status) -> Outcome {
        GrpcClassifier.outcome(status)
    }
}

/// Transactions do not last: ten milliseconds, and as much by chance.
#[derive(Debug)]
struct Soon;

impl Backoff for Soon {
    fn delay(&self, _retry: u32, dice: f64) -> Duration {
        Duration::from_millis(10).mul_f64(1.0 + dice)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = support::user_service(Code::Aborted, 1).await?;
    // One budget, which other upstreams of this program may share.
    let budget = Arc::new(TokenBucket::new(BudgetConfig::default())?);

    let resilience = ResilienceLayer::new(
        "user-service",
        ResilienceConfig {
            idempotent: user::IDEMPOTENT_METHODS.into(),
            policies: Policies {
                classifier: Some(Arc::new(AbortedIsRetried)),
                backoff: Some(Arc::new(Soon)),
                budget: Some(budget.clone()),
            },
            ..ResilienceConfig::default()
        },
    )?;
    let channel = resilience::connect(&address.to_string(), ConnectConfig::default())?;
    let mut users = UserServiceClient::new(resilience.layer(channel));

    println!("a call whose first attempt is ABORTED:");
    let request = ValidateUserRequest {
        user_id: "user-123".to_owned(),
    };
    let reply = users.validate_user(request).await?.into_inner();
    println!("  {} may order", reply.user_name);
    println!("the budget allows {} more retries", budget.tokens());
    Ok(())
}
