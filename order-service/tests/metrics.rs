//! Every name and label, before the first call and after some. One test, as
//! all tests of a file share the recorder of their process.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use common::{Stack, order, scrape, value};
use order_service::ResilienceSettings;
use proto::order::CreateOrderRequest;

/// What came of orders, by the labels of `orders_total`.
const ORDERS: [(&str, &str); 6] = [
    ("created", "none"),
    ("error", "user_invalid"),
    ("error", "refused"),
    ("error", "upstream"),
    ("error", "deadline"),
    ("invalid", "bad_request"),
];

fn orders(scrape: &str) -> Vec<f64> {
    let series = |(status, reason)| {
        value(
            scrape,
            &format!("orders_total{{status=\"{status}\",reason=\"{reason}\"}}"),
        )
    };
    ORDERS
        .into_iter()
        .map(|labels| series(labels).unwrap())
        .collect()
}

#[tokio::test]
async fn every_series_is_there_at_zero_and_counts_from_there() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;
    let page = scrape(&stack.orders).await;

    assert_eq!(orders(&page), [0.0; 6]);
    let target = "grpc_target=\"user-service\",grpc_method=\"user.UserService/ValidateUser\"";
    for series in [
        "grpc_server_call_started_total{grpc_method=\"order.OrderService/CreateOrder\"}".to_owned(),
        format!("grpc_client_attempt_started_total{{{target}}}"),
        format!("grpc_client_call_duration_seconds_count{{{target},grpc_status=\"OK\"}}"),
        format!("grpc_client_attempt_duration_seconds_count{{{target},grpc_status=\"OK\"}}"),
        "resilience_rejections_total{upstream=\"user-service\",reason=\"circuit_open\"}".to_owned(),
        "resilience_circuit_breaker_state{upstream=\"user-service\",state=\"open\"}".to_owned(),
    ] {
        assert_eq!(value(&page, &series), Some(0.0), "{series}\n{page}");
    }
    let closed = "resilience_circuit_breaker_state{upstream=\"user-service\",state=\"closed\"}";
    assert_eq!(value(&page, closed), Some(1.0));
    let tokens = "resilience_retry_budget_tokens{upstream=\"user-service\"}";
    assert_eq!(value(&page, tokens), Some(20.0));
    for bound in resilience::DURATION_BUCKETS {
        let bucket = format!(
            "grpc_client_call_duration_seconds_bucket{{{target},grpc_status=\"OK\",le=\"{bound}\"}}"
        );
        assert_eq!(value(&page, &bucket), Some(0.0), "{bucket}");
    }

    let client = stack.client();
    for user in ["user-123", "user-123", "user-0"] {
        client.create(order(user)).await.unwrap();
    }
    client
        .create(CreateOrderRequest::default())
        .await
        .unwrap_err();
    stack.set_chaos("down").await;
    client.create(order("user-123")).await.unwrap();
    let page = scrape(&stack.orders).await;

    assert_eq!(orders(&page), [2.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let attempts = format!("grpc_client_attempt_started_total{{{target}}}");
    assert_eq!(value(&page, &attempts), Some(6.0));
    let reached = "grpc_server_call_started_total{grpc_method=\"user.UserService/ValidateUser\"}";
    assert_eq!(
        value(&page, reached),
        Some(6.0),
        "an attempt is what was sent"
    );
    // Three calls that succeeded paid in, up to the brim; two retries took out.
    assert_eq!(value(&page, tokens), Some(18.0), "refreshed at the scrape");
}
