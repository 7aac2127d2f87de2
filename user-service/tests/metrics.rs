//! Every name and label, before the first call and after it. One test, as all
//! tests of a file share the recorder of their process.

mod common;

use common::{get, service, users, validate, value};
use proto::user::UserRequest;

const METHODS: [&str; 4] = [
    "user.UserService/GetUser",
    "user.UserService/ValidateUser",
    "user.UserService/CreateUser",
    "user.UserService/DeactivateUser",
];

#[tokio::test]
async fn every_series_is_there_at_zero_and_counts_from_there() {
    let service = service("error=0.3:DATA_LOSS", false).await;
    let scrape = get(service.metrics_addr(), "/metrics").await;

    for method in METHODS {
        for kind in ["error", "latency", "hang", "capacity"] {
            let series = format!("chaos_injected_total{{kind=\"{kind}\",method=\"{method}\"}}");
            assert_eq!(value(&scrape, &series), Some(0.0), "{series}");
        }
        let started = format!("grpc_server_call_started_total{{grpc_method=\"{method}\"}}");
        assert_eq!(value(&scrape, &started), Some(0.0), "{started}");
        for status in ["OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"] {
            let labels = format!("grpc_method=\"{method}\",grpc_status=\"{status}\"");
            let count = format!("grpc_server_call_duration_seconds_count{{{labels}}}");
            assert_eq!(value(&scrape, &count), Some(0.0), "{count}");
            let buckets = format!("grpc_server_call_duration_seconds_bucket{{{labels},le=");
            assert_eq!(scrape.matches(&buckets).count(), 19, "{buckets}");
        }
    }
    for name in [
        "process_open_fds",
        "process_cpu_seconds_total",
        "tokio_workers",
    ] {
        assert!(scrape.contains(&format!("\n{name} ")), "{name}");
    }
    for name in [
        "chaos_injected_total",
        "grpc_server_call_duration_seconds",
        "tokio_workers",
    ] {
        assert!(scrape.contains(&format!("\n# HELP {name} ")), "{name}");
    }

    for counter in [
        "process_cpu_seconds_total",
        "tokio_workers_busy_seconds_total",
    ] {
        let typed = format!("\n# TYPE {counter} counter\n{counter} ");
        assert!(scrape.contains(&typed), "{counter}");
    }
    let in_force = |kind| value(&scrape, &format!("chaos_in_force_ratio{{kind=\"{kind}\"}}"));
    assert_eq!(
        ["error", "latency", "hang", "capacity"].map(in_force),
        [0.3, 0.0, 0.0, 0.0].map(Some)
    );

    let mut users = users(&service).await;
    let mut failed = 0.0;
    for _ in 0..40 {
        failed += f64::from(u8::from(
            users.validate_user(validate("user-123")).await.is_err(),
        ));
    }
    while users
        .get_user(UserRequest::default())
        .await
        .unwrap_err()
        .code()
        != tonic::Code::NotFound
    {}
    let scrape = get(service.metrics_addr(), "/metrics").await;
    let of = |name: &str, labels: &str| value(&scrape, &format!("{name}{{{labels}}}"));

    let method = "method=\"user.UserService/ValidateUser\"";
    assert_eq!(
        of("chaos_injected_total", &format!("kind=\"error\",{method}")),
        Some(failed)
    );
    assert_eq!(
        of("grpc_server_call_started_total", &format!("grpc_{method}")),
        Some(40.0)
    );
    let count = |status: &str| {
        let labels = format!("grpc_{method},grpc_status=\"{status}\"");
        of("grpc_server_call_duration_seconds_count", &labels)
    };
    assert_eq!(count("OK"), Some(40.0 - failed));
    assert_eq!(count("DATA_LOSS"), Some(failed));
    assert_eq!(
        of(
            "grpc_server_call_duration_seconds_count",
            "grpc_method=\"user.UserService/GetUser\",grpc_status=\"NOT_FOUND\""
        ),
        Some(1.0)
    );
}
