//! `RESILIENCE=off` has none of it. A file of its own: the recorder is shared
//! by all services of a process.

mod common;

use common::{Stack, scrape};
use order_service::ResilienceSettings;

#[tokio::test]
async fn without_resilience_nothing_of_it_is_measured() {
    let plain = ResilienceSettings {
        enabled: false,
        ..ResilienceSettings::default()
    };
    let stack = Stack::start("off", plain).await;

    assert_eq!(stack.client().order().await.status, "CREATED");

    let page = scrape(&stack.orders).await;
    assert!(!page.contains("resilience_"), "{page}");
    assert!(!page.contains("grpc_client_"), "{page}");
    assert!(
        page.contains("orders_total{status=\"created\",reason=\"none\"} 1\n"),
        "{page}"
    );
}
