//! Every name and label, before the first call and after some. One test, as
//! all tests of a file share the recorder of their process.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{Stack, order, scrape, value};
use order_service::ResilienceSettings;
use proto::order::CreateOrderRequest;
use tokio::task::JoinSet;

/// What came of orders, by the labels of `orders_total`.
const ORDERS: [(&str, &str); 9] = [
    ("created", "none"),
    ("error", "user_invalid"),
    ("error", "refused"),
    ("error", "upstream"),
    ("error", "deadline"),
    ("invalid", "bad_request"),
    ("created", "repeated"),
    ("error", "storage"),
    ("invalid", "already_exists"),
];

/// Every metric of both services, which share the recorder of this process: its
/// type, and the labels of each of its series.
const CATALOGUE: [(&str, &str, &[&str]); 36] = [
    ("orders_total", "counter", &["reason", "status"]),
    ("chaos_injected_total", "counter", &["kind", "method"]),
    ("chaos_in_force_ratio", "gauge", &["kind"]),
    (
        "grpc_server_call_started_total",
        "counter",
        &["grpc_method"],
    ),
    (
        "grpc_server_calls_not_begun_total",
        "counter",
        &["grpc_method", "reason"],
    ),
    (
        "grpc_server_call_duration_seconds",
        "histogram",
        &["grpc_method", "grpc_status"],
    ),
    (
        "grpc_client_call_duration_seconds",
        "histogram",
        &["grpc_method", "grpc_status", "grpc_target"],
    ),
    (
        "grpc_client_attempt_started_total",
        "counter",
        &["grpc_method", "grpc_target"],
    ),
    (
        "grpc_client_attempt_duration_seconds",
        "histogram",
        &["grpc_method", "grpc_status", "grpc_target"],
    ),
    (
        "grpc_client_call_retries",
        "histogram",
        &["grpc_method", "grpc_target"],
    ),
    (
        "grpc_client_call_transparent_retries",
        "histogram",
        &["grpc_method", "grpc_target"],
    ),
    (
        "grpc_client_call_retry_delay_seconds",
        "histogram",
        &["grpc_method", "grpc_target"],
    ),
    (
        "resilience_calls_total",
        "counter",
        &["method", "outcome", "upstream"],
    ),
    (
        "resilience_rejections_total",
        "counter",
        &["reason", "upstream"],
    ),
    (
        "resilience_retries_stopped_total",
        "counter",
        &["reason", "upstream"],
    ),
    ("resilience_retry_budget_tokens", "gauge", &["upstream"]),
    (
        "resilience_circuit_breaker_state",
        "gauge",
        &["state", "upstream"],
    ),
    (
        "resilience_circuit_breaker_transitions_total",
        "counter",
        &["from", "reason", "to", "upstream"],
    ),
    (
        "resilience_circuit_breaker_state_seconds",
        "gauge",
        &["state", "upstream"],
    ),
    (
        "resilience_circuit_breaker_failure_ratio",
        "gauge",
        &["upstream"],
    ),
    ("resilience_concurrency_in_flight", "gauge", &["upstream"]),
    ("resilience_concurrency_limit", "gauge", &["upstream"]),
    ("resilience_concurrency_queued", "gauge", &["upstream"]),
    (
        "resilience_concurrency_queue_wait_seconds",
        "histogram",
        &["upstream"],
    ),
    ("process_cpu_seconds_total", "counter", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_max_fds", "gauge", &[]),
    ("process_virtual_memory_bytes", "gauge", &[]),
    ("process_virtual_memory_max_bytes", "gauge", &[]),
    ("process_resident_memory_bytes", "gauge", &[]),
    ("process_start_time_seconds", "gauge", &[]),
    ("process_threads", "gauge", &[]),
    ("tokio_workers", "gauge", &[]),
    ("tokio_workers_busy_seconds_total", "counter", &[]),
    ("tokio_alive_tasks", "gauge", &[]),
    ("tokio_global_queue_depth", "gauge", &[]),
];

/// What a page says of each metric: its type, whether it is explained, and every
/// set of labels that a series of it has.
type Said = BTreeMap<String, (String, bool, BTreeSet<Vec<String>>)>;

fn read(page: &str) -> Said {
    let mut said = Said::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let help = format!("\n# HELP {name} ");
        let explained = page
            .split_once(&help)
            .is_some_and(|(_, rest)| rest.lines().next().is_some_and(|help| help.len() > 5));
        said.insert(
            name.to_owned(),
            (kind.to_owned(), explained, BTreeSet::new()),
        );
    }
    let body = page.split_once("\r\n\r\n").unwrap().1;
    for line in body
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let mut labels: Vec<String> = labels
            .split(',')
            .filter_map(|label| Some(label.split_once('=')?.0.to_owned()))
            .filter(|label| label != "le")
            .collect();
        labels.sort();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| said.contains_key(*family));
        let family = said.get_mut(family.unwrap_or(name));
        family
            .unwrap_or_else(|| panic!("{line} has no type"))
            .2
            .insert(labels);
    }
    said
}

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

    assert_eq!(orders(&page), [0.0; 9]);
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

    assert_eq!(orders(&page), [2.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
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

    every_outcome(&stack).await;
    let page = scrape(&stack.orders).await;
    let none = ORDERS
        .into_iter()
        .zip(orders(&page))
        .filter(|(_, n)| *n == 0.0);
    let none: Vec<_> = none.map(|(labels, _)| labels).collect();
    // A database that fails is the subject of another test.
    assert_eq!(none, [("error", "storage")]);
    for kind in ["error", "latency", "hang", "capacity"] {
        let method = "method=\"user.UserService/ValidateUser\"";
        let series = format!("chaos_injected_total{{kind=\"{kind}\",{method}}}");
        assert!(value(&page, &series) > Some(0.0), "{kind}: {page}");
    }
    let said = read(&page);
    for (name, kind, labels) in CATALOGUE {
        let (its_kind, explained, its_labels) = said
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not among {:?}", said.keys()));
        assert_eq!(its_kind, kind, "{name}");
        assert!(explained, "{name} has no help");
        let one_set = BTreeSet::from([labels.iter().map(|label| (*label).to_owned()).collect()]);
        assert_eq!(*its_labels, one_set, "{name}");
    }
    let stated = CATALOGUE.map(|(name, ..)| name);
    let more = said.keys().filter(|name| !stated.contains(&name.as_str()));
    assert_eq!(more.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// What the test has not driven before: the deadline, each other fault, and last
/// the open circuit.
async fn every_outcome(stack: &Stack) {
    let client = stack.client();
    stack.set_chaos("latency=1ms").await;
    let order_of_one = order("user-123").into_inner();
    for user in ["user-123", "user-123", "user-456"] {
        let again = CreateOrderRequest {
            user_id: user.into(),
            ..order_of_one.clone()
        };
        let answer = client.create(again).await;
        assert_eq!(answer.is_ok(), user == "user-123", "{answer:?}");
    }
    stack.set_chaos("hang=1,capacity=1,queue=0").await;
    let mut request = order("user-123");
    request.set_timeout(Duration::from_millis(150));
    let (late, turned_away) = tokio::join!(client.create(request), client.order());
    late.unwrap_err();
    assert_eq!(turned_away.status, "ERROR");
    stack.set_chaos("down").await;
    let mut calls: JoinSet<_> = (0..60)
        .map(|_| {
            let client = client.clone();
            async move { client.order().await }
        })
        .collect();
    while let Some(answer) = calls.join_next().await {
        answer.unwrap();
    }
    // So many failures must last for a moment before they open it.
    let refused = async {
        loop {
            let answer = client.order().await;
            if answer.error_message.contains("circuit open") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused)
        .await
        .expect("the circuit opens");
}
