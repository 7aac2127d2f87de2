//! A method that answers with a stream, and lasts longer than any deadline.
//!
//! `cargo run -p resilience --example streaming`
//!
//! The method is `Watch` of gRPC's own health service, which tells of every
//! change until the client goes away. The service starts with this program.

use std::{error::Error, net::Ipv4Addr, time::Duration};

use resilience::{ConnectConfig, MethodConfig, ResilienceConfig, ResilienceLayer, TimeLimit};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::{HealthReporter, health_reporter},
};
use tower::Layer as _;

const WATCH: &str = "grpc.health.v1.Health/Watch";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (reporter, health) = health_reporter();
    tokio::spawn(
        Server::builder()
            .add_service(health)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    tokio::spawn(change(reporter));

    let channel = resilience::connect(&url, ConnectConfig::default())?;
    let resilience = ResilienceLayer::new(
        "health",
        ResilienceConfig {
            // What holds for all other methods.
            deadline: Duration::from_millis(500),
            overrides: [(
                WATCH.to_owned(),
                MethodConfig {
                    // Its end comes when the caller has seen enough.
                    deadline: TimeLimit::None,
                    // From here on, to the first message; then it may be silent.
                    attempt_timeout: TimeLimit::After(Duration::from_millis(250)),
                    streaming: Some(true),
                    // It would hold a slot for as long as it lasts.
                    limited: Some(false),
                    // To watch changes nothing, so it may be asked for again
                    // until the first message.
                    idempotent: Some(true),
                    ..MethodConfig::default()
                },
            )]
            .into(),
            ..ResilienceConfig::default()
        },
    )?;
    let mut health = HealthClient::new(resilience.layer(channel.clone()));

    println!("1. A stream with settings of its own:");
    let started = Instant::now();
    let mut changes = health
        .watch(HealthCheckRequest::default())
        .await?
        .into_inner();
    for _ in 0..4 {
        let Some(change) = changes.message().await? else {
            return Err("the stream has ended".into());
        };
        println!(
            "   after {:4} ms: {:?}, and {} of the slots taken",
            started.elapsed().as_millis(),
            change.status(),
            resilience.in_flight(),
        );
    }
    println!("   The caller has seen enough.");
    drop(changes);

    println!("2. The same stream with the settings of all methods, and a deadline of 500 ms:");
    let config = ResilienceConfig {
        deadline: Duration::from_millis(500),
        streaming: [WATCH].into(),
        ..ResilienceConfig::default()
    };
    let resilience = ResilienceLayer::new("health", config)?;
    let mut health = HealthClient::new(resilience.layer(channel));
    let started = Instant::now();
    let mut changes = health
        .watch(HealthCheckRequest::default())
        .await?
        .into_inner();
    let status = loop {
        match changes.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Err("the stream has ended".into()),
            Err(status) => break status,
        }
    };
    println!(
        "   after {:4} ms: {:?}, {}",
        started.elapsed().as_millis(),
        status.code(),
        status.message(),
    );
    Ok(())
}

/// The health of the service changes, again and again.
async fn change(reporter: HealthReporter) {
    for status in [ServingStatus::NotServing, ServingStatus::Serving]
        .into_iter()
        .cycle()
    {
        sleep(Duration::from_millis(400)).await;
        reporter.set_service_status("", status).await;
    }
}
