//! The layers put together by hand: one left out, and two added.
//!
//! `cargo run -p resilience --example compose`
//!
//! There is no concurrency limit here, because a proxy in front of the service
//! has one. Each call gets an id, by a layer of tower's; and each attempt is
//! printed, by a layer that is written here.

mod upstream;

use std::{
    error::Error,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
};

use http::{HeaderValue, Request};
use proto::user::{self, user_service_client::UserServiceClient};
use resilience::{
    Attempts, ConnectConfig, ResilienceConfig, Upstream,
    layers::{
        AttemptMetricsLayer, AttemptTimeoutLayer, BreakerLayer, CallMetricsLayer, DeadlineLayer,
        EdgeLayer, RetryLayer,
    },
};
use tonic::{Status, body::Body};
use tower::{Service, ServiceBuilder, layer::layer_fn};
use upstream::{Users, ada};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Users::start(|number| match number {
        1 | 2 => Err(Status::unavailable("still warming up")),
        _ => Ok(()),
    })
    .await?;
    let channel = resilience::connect(&service.url, ConnectConfig::default())?;
    // What the layers share: the name, the methods, the settings.
    let upstream = Upstream::new(
        "user-service",
        ResilienceConfig {
            methods: user::METHODS.into(),
            idempotent: user::IDEMPOTENT_METHODS.into(),
            ..ResilienceConfig::default()
        },
    )?;

    // Outermost first.
    let stack = ServiceBuilder::new()
        .layer(CallMetricsLayer::new(&upstream))
        .layer(DeadlineLayer::new(&upstream))
        // Outside of the retries: all attempts of a call have the same id.
        .map_request(with_id)
        .layer(RetryLayer::new(&upstream))
        // No `ConcurrencyLimitLayer`.
        .layer(BreakerLayer::new(&upstream))
        .layer(AttemptMetricsLayer::new(&upstream))
        .layer(AttemptTimeoutLayer::new(&upstream))
        // Inside of everything: it sees what is really sent.
        .layer(layer_fn(|inner| Printed { inner }))
        .layer(EdgeLayer)
        .service(channel);
    let mut users = UserServiceClient::new(stack);

    for call in 1..=2 {
        println!("Call {call}:");
        let reply = users.validate_user(ada()).await?;
        let retries = Attempts::of(reply.extensions()).retries;
        let name = reply.into_inner().user_name;
        println!("   {name:?} is the answer, after {retries} retries.");
    }
    println!("The service saw {} requests.", service.asked());
    Ok(())
}

fn with_id(mut request: Request<Body>) -> Request<Body> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let id = HeaderValue::from(LAST.fetch_add(1, Relaxed) + 1);
    request.headers_mut().insert("x-request-id", id);
    request
}

/// Prints each request, and hands it on.
#[derive(Clone)]
struct Printed<S> {
    inner: S,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Printed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        println!("   sent, with");
        for name in ["x-request-id", "grpc-timeout", "grpc-previous-rpc-attempts"] {
            if let Some(value) = request.headers().get(name) {
                println!("      {name}: {}", value.to_str().unwrap_or("?"));
            }
        }
        self.inner.call(request)
    }
}
