//! What Prometheus is shown: `cargo run -p resilience --example metrics`.
//!
//! Three things are easily forgotten: the recorder comes before the layer, it is
//! told the bounds of the histograms, and the gauges are brought up to date
//! before each scrape.

mod support;

use std::error::Error;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use proto::user::{self, ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{
    COUNT_BUCKETS, ConnectConfig, DURATION_BUCKETS, ResilienceConfig, ResilienceLayer,
};
use tonic::Code;
use tower::Layer as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = support::user_service(Code::Unavailable, 1).await?;

    // First: what exists from the start is registered when the layer is made.
    let times = Matcher::Suffix("_seconds".to_owned());
    let mut recorder = PrometheusBuilder::new().set_buckets_for_metric(times, DURATION_BUCKETS)?;
    for (name, bounds) in COUNT_BUCKETS {
        recorder = recorder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)?;
    }
    let exporter = recorder.install_recorder()?;

    let resilience = ResilienceLayer::new(
        "user-service",
        ResilienceConfig {
            methods: user::METHODS.into(),
            idempotent: user::IDEMPOTENT_METHODS.into(),
            ..ResilienceConfig::default()
        },
    )?;
    let channel = resilience::connect(&address.to_string(), ConnectConfig::default())?;
    let mut users = UserServiceClient::new(resilience.layer(channel));
    users.validate_user(ValidateUserRequest::default()).await?;

    // What answers Prometheus does this, and `run_upkeep` every few seconds,
    // or samples pile up while nobody asks.
    resilience.refresh_metrics();
    exporter.run_upkeep();
    let page = exporter.render();
    for wanted in [
        "grpc_client_attempt_started_total{",
        "resilience_calls_total{",
        "resilience_retry_budget_tokens{",
    ] {
        for line in page.lines().filter(|line| line.starts_with(wanted)) {
            if line.contains("ValidateUser") || line.contains("budget") {
                println!("{line}");
            }
        }
    }
    Ok(())
}
