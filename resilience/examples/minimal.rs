//! A client to begin with: `cargo run -p resilience --example minimal`.

mod support;

use std::{error::Error, time::Duration};

use proto::user::{self, ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{Attempts, ConnectConfig, Rejection, ResilienceConfig, ResilienceLayer};
use tonic::Code;
use tower::Layer as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // An upstream whose first answer is an error.
    let address = support::user_service(Code::Unavailable, 1).await?;

    let channel = resilience::connect(&address.to_string(), ConnectConfig::default())?;
    let resilience = ResilienceLayer::new(
        "user-service",
        ResilienceConfig {
            deadline: Duration::from_millis(500),
            methods: user::METHODS.into(),
            // Without this, UNAVAILABLE is not retried: the upstream may have acted.
            idempotent: user::IDEMPOTENT_METHODS.into(),
            ..ResilienceConfig::default()
        },
    )?;
    let mut users = UserServiceClient::new(resilience.layer(channel));

    println!("a call, of which the first attempt fails:");
    let request = ValidateUserRequest {
        user_id: "user-123".to_owned(),
    };
    let reply = users.validate_user(request.clone()).await?;
    let retries = Attempts::of(reply.extensions()).retries;
    let name = reply.into_inner().user_name;
    println!("  {name} may order, after {retries} retry");
    assert_eq!(retries, 1);

    println!("a call while the circuit is open:");
    resilience.breaker().force_open();
    match users.validate_user(request).await {
        Err(status) if Rejection::of(&status).is_some() => {
            println!("  refused here, nothing was sent: {}", status.message());
        }
        other => return Err(format!("it was not refused: {other:?}").into()),
    }
    Ok(())
}
