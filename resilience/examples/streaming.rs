//! A method that answers with a stream, and lasts:
//! `cargo run -p resilience --example streaming`.
//!
//! The stream is that of gRPC's own health service: it says how a service is,
//! and then again whenever that changes.

use std::{error::Error, time::Duration};

use resilience::{ConnectConfig, MethodConfig, ResilienceConfig, ResilienceLayer, TimeLimit};
use tokio::{net::TcpListener, time::Instant, time::sleep};
use tonic::transport::server::TcpIncoming;
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};
use tower::Layer as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (reporter, health) = health_reporter();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(health)
            .serve_with_incoming(TcpIncoming::from(listener)),
    );

    let watch = MethodConfig {
        // Its response is a stream: the head is passed on at once, and 250 ms
        // are the time to its first message.
        streaming: Some(true),
        attempt_timeout: TimeLimit::After(Duration::from_millis(250)),
        // It ends when somebody ends it.
        deadline: TimeLimit::None,
        // A slot would be taken for all that time.
        limited: Some(false),
        ..MethodConfig::default()
    };
    let resilience = ResilienceLayer::new(
        "health",
        ResilienceConfig {
            deadline: Duration::from_millis(500), // of all other methods
            overrides: [("grpc.health.v1.Health/Watch".to_owned(), watch)].into(),
            ..ResilienceConfig::default()
        },
    )?;
    let channel = resilience::connect(&address.to_string(), ConnectConfig::default())?;
    let mut client = HealthClient::new(resilience.layer(channel));

    let started = Instant::now();
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let mut changes = client.watch(request).await?.into_inner();
    tokio::spawn(async move {
        for status in [ServingStatus::NotServing, ServingStatus::Serving] {
            sleep(Duration::from_millis(600)).await; // longer than any other call may take
            reporter.set_service_status("", status).await;
        }
    });
    for _ in 0..3 {
        let change = changes.message().await?.ok_or("the stream ended")?;
        let millis = started.elapsed().as_millis();
        println!("{millis:5} ms: {:?}", change.status());
        assert_eq!(resilience.in_flight(), 0, "it takes no slot");
    }
    Ok(())
}
