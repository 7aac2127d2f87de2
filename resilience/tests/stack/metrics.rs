//! Every series, once.

use std::collections::BTreeSet;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use proto::user::user_service_client::UserServiceClient;
use resilience::{COUNT_BUCKETS, DURATION_BUCKETS, ResilienceConfig, ResilienceLayer};
use tonic::Code;
use tower::Layer as _;

use crate::{
    config,
    upstream::{Client, Reply, Upstream},
    validate,
};

/// A stack that reports to a recorder of its own.
fn measured(upstream: &Upstream, config: ResilienceConfig) -> (Client, PrometheusHandle) {
    let (layer, handle) = recorded("upstream", config);
    layer.refresh_metrics();
    let client = UserServiceClient::new(layer.layer(upstream.clone()));
    (client, handle)
}

/// Its layer.
pub(crate) fn recorded(
    upstream: &str,
    config: ResilienceConfig,
) -> (ResilienceLayer, PrometheusHandle) {
    let mut builder = PrometheusBuilder::new()
        .set_buckets(DURATION_BUCKETS)
        .unwrap();
    for (name, buckets) in COUNT_BUCKETS {
        builder = builder
            .set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
            .unwrap();
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    let layer = metrics::with_local_recorder(&recorder, || ResilienceLayer::new(upstream, config));
    (layer.unwrap(), handle)
}

/// The lines of a scrape that are not histogram buckets, `series value`.
pub(crate) fn lines(handle: &PrometheusHandle) -> BTreeSet<String> {
    handle
        .render()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty() && !line.contains("_bucket{"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_series_exists_at_zero_from_the_start() {
    let (_, handle) = measured(&Upstream::always(Reply::Valid), config());
    let lines = lines(&handle);
    let method = r#"method="user.UserService/ValidateUser""#;
    let upstream = r#"upstream="upstream""#;

    for expected in [
        format!(r#"grpc_client_attempt_started_total{{grpc_target="upstream",grpc_{method}}} 0"#),
        format!(
            r#"grpc_client_call_duration_seconds_count{{grpc_target="upstream",grpc_{method},grpc_status="UNAVAILABLE"}} 0"#
        ),
        format!(r#"resilience_calls_total{{{upstream},{method},outcome="ok_after_retry"}} 0"#),
        format!(r#"resilience_rejections_total{{{upstream},reason="queue_timeout"}} 0"#),
        format!(r#"resilience_retries_stopped_total{{{upstream},reason="budget"}} 0"#),
        format!(r#"resilience_retry_budget_tokens{{{upstream}}} 20"#),
        format!(r#"resilience_circuit_breaker_state{{{upstream},state="closed"}} 1"#),
        format!(r#"resilience_circuit_breaker_state{{{upstream},state="disabled"}} 0"#),
        format!(
            r#"resilience_circuit_breaker_transitions_total{{{upstream},from="closed",to="open",reason="failure_ratio"}} 0"#
        ),
        format!(r#"resilience_circuit_breaker_failure_ratio{{{upstream}}} 0"#),
        format!(r#"resilience_concurrency_in_flight{{{upstream}}} 0"#),
        format!(r#"resilience_concurrency_limit{{{upstream}}} 100"#),
        format!(r#"resilience_concurrency_queued{{{upstream}}} 0"#),
        format!(r#"resilience_concurrency_queue_wait_seconds_count{{{upstream}}} 0"#),
    ] {
        assert!(
            lines.contains(&expected),
            "{expected}\nis not among\n{lines:#?}"
        );
    }
    for name in ["state_seconds", "state"] {
        let name = format!("resilience_circuit_breaker_{name}{{");
        assert_eq!(
            lines.iter().filter(|line| line.starts_with(&name)).count(),
            6,
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_counted_once_and_its_attempts_each() {
    let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
    let (mut client, handle) = measured(&upstream, config());
    validate(&mut client).await.unwrap();
    let lines = lines(&handle);

    let method = r#"method="user.UserService/ValidateUser""#;
    for expected in [
        format!(
            r#"resilience_calls_total{{upstream="upstream",{method},outcome="ok_after_retry"}} 1"#
        ),
        format!(r#"resilience_calls_total{{upstream="upstream",{method},outcome="ok"}} 0"#),
        format!(
            r#"grpc_client_call_duration_seconds_count{{grpc_target="upstream",grpc_{method},grpc_status="OK"}} 1"#
        ),
        format!(r#"grpc_client_attempt_started_total{{grpc_target="upstream",grpc_{method}}} 2"#),
        format!(
            r#"grpc_client_attempt_duration_seconds_count{{grpc_target="upstream",grpc_{method},grpc_status="UNAVAILABLE"}} 1"#
        ),
        format!(
            r#"grpc_client_attempt_duration_seconds_count{{grpc_target="upstream",grpc_{method},grpc_status="OK"}} 1"#
        ),
        format!(r#"grpc_client_call_retries_count{{grpc_target="upstream",grpc_{method}}} 1"#),
        format!(
            r#"grpc_client_call_retry_delay_seconds_count{{grpc_target="upstream",grpc_{method}}} 1"#
        ),
    ] {
        assert!(
            lines.contains(&expected),
            "{expected}\nis not among\n{lines:#?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_one_state_is_shown_after_every_transition() {
    let upstream = Upstream::always(Reply::code(Code::Unavailable));
    let mut config = config();
    config.retry.max_attempts = 1;
    let (mut client, handle) = measured(&upstream, config);
    let shown = || {
        lines(&handle)
            .into_iter()
            .filter(|line| line.starts_with("resilience_circuit_breaker_state{"))
            .filter(|line| line.ends_with(" 1"))
            .collect::<Vec<_>>()
    };
    let is = |state: &str| {
        vec![format!(
            r#"resilience_circuit_breaker_state{{upstream="upstream",state="{state}"}} 1"#
        )]
    };

    assert_eq!(shown(), is("closed"));
    for _ in 0..27 {
        validate(&mut client).await.unwrap_err();
    }
    assert_eq!(shown(), is("open"));
    tokio::time::sleep(crate::ms(600)).await;
    upstream.becomes(Reply::Valid);
    validate(&mut client).await.unwrap();
    assert_eq!(shown(), is("half_open"));
    validate(&mut client).await.unwrap();
    assert_eq!(shown(), is("closed"));

    for (from, to, reason) in [
        ("closed", "open", "failure_ratio"),
        ("open", "half_open", "open_expired"),
        ("half_open", "closed", "probes_succeeded"),
    ] {
        let expected = format!(
            r#"resilience_circuit_breaker_transitions_total{{upstream="upstream",from="{from}",to="{to}",reason="{reason}"}} 1"#
        );
        assert!(lines(&handle).contains(&expected), "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_counted_by_its_reason() {
    let upstream = Upstream::always(Reply::Hang);
    let mut config = config();
    config.limit.concurrency = 1;
    config.limit.queue = 1;
    let (client, handle) = measured(&upstream, config);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { validate(&mut client).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
    let lines = lines(&handle);
    for expected in [
        r#"resilience_rejections_total{upstream="upstream",reason="limit_reached"} 1"#,
        r#"resilience_rejections_total{upstream="upstream",reason="queue_timeout"} 1"#,
        r#"resilience_rejections_total{upstream="upstream",reason="circuit_open"} 0"#,
        r#"resilience_calls_total{upstream="upstream",method="user.UserService/ValidateUser",outcome="rejected"} 2"#,
    ] {
        assert!(
            lines.contains(expected),
            "{expected}\nis not among\n{lines:#?}"
        );
    }
}
