//! The layers composed by hand: `cargo run -p resilience --example compose`.
//!
//! This client wants a deadline, retries and a breaker, and neither a limit nor
//! metrics. It adds a layer of its own, which sees each attempt.

mod support;

use std::{
    error::Error,
    task::{Context, Poll},
};

use proto::user::{self, ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{
    ConnectConfig, ResilienceConfig, Upstream,
    layers::{AttemptTimeoutLayer, BreakerLayer, DeadlineLayer, EdgeLayer, RetryLayer},
};
use tonic::Code;
use tower::{Service, ServiceBuilder, layer::layer_fn};

/// Says what goes by.
#[derive(Debug, Clone)]
struct Loud<S>(S);

impl<S, R> Service<http::Request<R>> for Loud<S>
where
    S: Service<http::Request<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<R>) -> S::Future {
        let time = &request.headers()["grpc-timeout"];
        println!("  an attempt goes out, and has {time:?}");
        self.0.call(request)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = support::user_service(Code::Unavailable, 2).await?;
    let channel = resilience::connect(&address.to_string(), ConnectConfig::default())?;

    // What the layers share: a name, the methods, the settings.
    let upstream = Upstream::new(
        "user-service",
        ResilienceConfig {
            idempotent: user::IDEMPOTENT_METHODS.into(),
            ..ResilienceConfig::default()
        },
    )?;
    let breaker = BreakerLayer::new(&upstream);
    let channel = ServiceBuilder::new()
        // Outermost: everything below waits inside it.
        .layer(DeadlineLayer::new(&upstream))
        .layer(RetryLayer::new(&upstream))
        // Inside the retries: each attempt asks.
        .layer(breaker.clone())
        // Inside the breaker, so that an upstream that hangs trips it.
        .layer(AttemptTimeoutLayer::new(&upstream))
        .layer(layer_fn(Loud))
        // Innermost, always: the others rely on its vocabulary of errors.
        .layer(EdgeLayer)
        .service(channel);
    let mut users = UserServiceClient::new(channel);

    println!("a call, of which two attempts fail:");
    let request = ValidateUserRequest {
        user_id: "user-123".to_owned(),
    };
    let reply = users.validate_user(request).await?.into_inner();
    println!("  {} may order", reply.user_name);
    println!("the circuit is {}", breaker.breaker().state().as_str());
    Ok(())
}
