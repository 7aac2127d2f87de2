//! A client of the user service, with the whole stack around its channel.
//!
//! `cargo run -p resilience --example minimal`
//!
//! The service starts with this program. It fails once, and later for a while,
//! and this shows what its callers notice.

mod upstream;

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use proto::user::{self, user_service_client::UserServiceClient};
use resilience::{
    Attempts, BreakerState, ConnectConfig, Rejection, ResilienceConfig, ResilienceLayer,
};
use tokio::time::{Instant, sleep};
use tonic::Status;
use tower::Layer as _;
use upstream::{Users, ada};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let service = Users::start(move |number| match number {
        1 => Err(Status::unavailable("still warming up")),
        _ if is_down.load(Relaxed) => Err(Status::unavailable("out of order")),
        _ => Ok(()),
    })
    .await?;

    // All that it takes:
    let channel = resilience::connect(&service.url, ConnectConfig::default())?;
    let resilience = ResilienceLayer::new(
        "user-service",
        ResilienceConfig {
            methods: user::METHODS.into(),
            idempotent: user::IDEMPOTENT_METHODS.into(),
            ..ResilienceConfig::default()
        },
    )?;
    let mut users = UserServiceClient::new(resilience.layer(channel));

    println!("1. The service fails once.");
    let reply = users.validate_user(ada()).await?;
    let attempts = Attempts::of(reply.extensions());
    println!(
        "   The caller got {:?} all the same, after {} retry.",
        reply.into_inner().user_name,
        attempts.retries
    );

    println!("2. The service is out of order. It is called 200 times.");
    down.store(true, Relaxed);
    let (before, mut refused) = (service.asked(), 0);
    for _ in 0..200 {
        match users.validate_user(ada()).await {
            Err(status) if Rejection::of(&status).is_some() => refused += 1,
            Err(_) => {}
            Ok(_) => return Err("it is out of order".into()),
        }
    }
    let asked = service.asked() - before;
    println!("   {refused} calls were refused here, at once: nothing was sent.");
    println!("   The others, with all their retries, were {asked} requests.");
    println!(
        "   The circuit is {}.",
        resilience.breaker().state().as_str()
    );

    println!("3. The service is well again.");
    down.store(false, Relaxed);
    let started = Instant::now();
    while resilience.breaker().state() != BreakerState::Closed {
        sleep(Duration::from_millis(10)).await;
        // Some are refused still; the first that are not are probes.
        let _ = users.validate_user(ada()).await;
    }
    let took = started.elapsed().as_millis();
    println!("   The circuit was closed after {took} ms.");
    Ok(())
}
