//! Policies of one's own: which failures are retried, after which delay, and
//! how many retries two upstreams may make together.
//!
//! `cargo run -p resilience --example classifier`

mod upstream;

use std::{error::Error, sync::Arc, time::Duration};

use proto::user::{self, user_service_client::UserServiceClient};
use resilience::{
    Attempts, Backoff, BudgetConfig, Classify, ConnectConfig, GrpcClassifier, Outcome, Policies,
    Resilience, ResilienceConfig, ResilienceLayer, RetryBudget as _, RetryRule, RetryStopped,
    TokenBucket,
};
use tokio::time::Instant;
use tonic::{Code, Status, transport::Channel};
use tower::Layer as _;
use upstream::{Users, ada};

/// As gRPC, but ABORTED is retried: this service says so when two of its
/// transactions met, and rolls both back.
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

/// 20 ms, 40 ms, 60 ms: transactions that met are short.
#[derive(Debug)]
struct Linear;

impl Backoff for Linear {
    fn delay(&self, retry: u32, _dice: f64) -> Duration {
        Duration::from_millis(20) * retry
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Two upstreams behind one database: if one is in trouble, so is the other,
    // and neither is to be flooded.
    let budget = Arc::new(TokenBucket::new(BudgetConfig {
        capacity: 5,
        ..BudgetConfig::default()
    })?);
    let policies = Policies {
        classifier: Some(Arc::new(AbortedIsRetried)),
        backoff: Some(Arc::new(Linear)),
        budget: Some(budget.clone()),
    };
    let east = Users::start(|number| match number {
        1 | 2 => Err(Status::aborted("transactions met")),
        3 => Ok(()),
        _ => Err(Status::unavailable("the database is gone")),
    })
    .await?;
    let west = Users::start(|_| Err(Status::unavailable("the database is gone"))).await?;
    let mut east_users = client("users-east", &east, &policies)?;
    let mut west_users = client("users-west", &west, &policies)?;

    println!("1. Two transactions meet, twice.");
    let started = Instant::now();
    let reply = east_users.validate_user(ada()).await?;
    println!(
        "   Answered after {} retries and {} ms; the delays were 20 and 40 ms.",
        Attempts::of(reply.extensions()).retries,
        started.elapsed().as_millis()
    );
    println!("   The first retry failed and stays paid for; the second is refunded.");

    println!("2. The database is gone. Each of the two is called 10 times.");
    println!(
        "   Of the 5 retries in the budget they share, {} are left.",
        budget.tokens()
    );
    let (before, mut told) = (east.asked() + west.asked(), None);
    for _ in 0..10 {
        for users in [&mut east_users, &mut west_users] {
            let answer = users.validate_user(ada()).await;
            let status = answer.err().ok_or("the database is gone")?;
            told = RetryStopped::of(&status).map(|stopped| stopped.reason().as_str());
        }
    }
    let retries = east.asked() + west.asked() - before - 20;
    println!("   20 calls made {retries} retries, and no more are to be had.");
    println!(
        "   The last call was not retried because of: {}.",
        told.unwrap_or("nothing")
    );
    Ok(())
}

fn client(
    name: &str,
    service: &Users,
    policies: &Policies,
) -> Result<UserServiceClient<Resilience<Channel>>, Box<dyn Error>> {
    let config = ResilienceConfig {
        methods: user::METHODS.into(),
        idempotent: user::IDEMPOTENT_METHODS.into(),
        policies: policies.clone(),
        ..ResilienceConfig::default()
    };
    let channel = resilience::connect(&service.url, ConnectConfig::default())?;
    let resilience = ResilienceLayer::new(name, config)?;
    Ok(UserServiceClient::new(resilience.layer(channel)))
}
