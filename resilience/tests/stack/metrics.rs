//! Every series, once.

use std::collections::BTreeSet;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use proto::user::{ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{COUNT_BUCKETS, DURATION_BUCKETS, Deadline, ResilienceConfig, ResilienceLayer};
use tokio::time::{Instant, timeout};
use tonic::{Code, Request};
use tower::Layer as _;

use crate::{
    config, ms,
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
        tokio::time::sleep(crate::ms(40)).await;
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

/// Counters of `metric` that are not zero, as `label value` by its label `by`.
fn counted(handle: &PrometheusHandle, metric: &str, by: &str) -> BTreeSet<String> {
    let labelled = format!("{by}=\"");
    lines(handle)
        .iter()
        .filter(|line| line.starts_with(metric) && !line.ends_with(" 0"))
        .map(|line| {
            let (_, rest) = line.split_once(&labelled).unwrap();
            let (label, _) = rest.split_once('"').unwrap();
            let (_, value) = line.rsplit_once(' ').unwrap();
            format!("{label} {value}")
        })
        .collect()
}

fn set(expected: &[&str]) -> BTreeSet<String> {
    expected.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_reason_for_no_retry_is_counted_and_no_other() {
    fn none(_: &mut ResilienceConfig) {}
    type Change = fn(&mut ResilienceConfig);
    let failing = || Reply::code(Code::Unavailable);
    let pushback = |value| Reply::Head(Code::Unavailable, vec![("grpc-retry-pushback-ms", value)]);
    let cases: [(&str, Reply, Change); 8] = [
        ("not_retryable", Reply::code(Code::Internal), none),
        ("not_idempotent", failing(), |config| {
            config.idempotent = [].into();
        }),
        ("attempts", failing(), |config| {
            config.retry.max_attempts = 1
        }),
        ("budget", failing(), |config| config.budget.capacity = 0),
        ("deadline", pushback("5000"), none),
        ("pushback", pushback("-1"), none),
        (
            "committed",
            Reply::MessageThenTrailers(Code::Unavailable),
            none,
        ),
        ("too_large", failing(), |config| {
            config.retry.replay_bytes_max = 1;
        }),
    ];
    for (reason, reply, change) in cases {
        let upstream = Upstream::always(reply);
        let mut config = config();
        change(&mut config);
        let (mut client, handle) = measured(&upstream, config);
        validate(&mut client).await.unwrap_err();
        let stopped = counted(&handle, "resilience_retries_stopped_total", "reason");
        assert_eq!(stopped, set(&[&format!("{reason} 1")]));
        assert_eq!(upstream.count(), 1, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_asked_for_again_is_no_retry_that_was_stopped() {
    let upstream = Upstream::always(Reply::code(Code::NotFound));
    let (mut client, handle) = measured(&upstream, config());
    validate(&mut client).await.unwrap_err();
    let stopped = counted(&handle, "resilience_retries_stopped_total", "reason");
    assert_eq!(stopped, set(&[]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_deadline_ended_is_not_retried_for_that_reason() {
    let upstream = Upstream::always(Reply::Hang);
    let (mut client, handle) = measured(&upstream, config());
    let mut request = Request::new(ValidateUserRequest::default());
    request.set_timeout(crate::ms(100));
    client.validate_user(request).await.unwrap_err();
    let stopped = counted(&handle, "resilience_retries_stopped_total", "reason");
    assert_eq!(stopped, set(&["deadline 1"]));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_refused_is_counted_as_such() {
    let upstream = Upstream::always(Reply::code(Code::Unavailable));
    let mut config = config();
    config.retry.backoff.initial = ms(200);
    let (layer, handle) = recorded("upstream", config);
    let mut client = UserServiceClient::new(layer.layer(upstream.clone()));
    let opens = async {
        tokio::task::yield_now().await;
        layer.breaker().force_open();
    };
    let (answer, ()) = tokio::join!(validate(&mut client), opens);
    answer.unwrap_err();
    assert_eq!(upstream.count(), 1);
    let stopped = counted(&handle, "resilience_retries_stopped_total", "reason");
    assert_eq!(stopped, set(&["refused 1"]));
    let rejections = counted(&handle, "resilience_rejections_total", "reason");
    assert_eq!(rejections, set(&["circuit_open 1"]));
}

#[tokio::test(start_paused = true)]
async fn each_outcome_of_a_call_is_counted() {
    let outcomes = |handle: &PrometheusHandle| counted(handle, "resilience_calls_total", "outcome");
    let failing = || Reply::code(Code::Unavailable);

    for (replies, outcome) in [
        (vec![Reply::Valid], "ok"),
        (vec![Reply::code(Code::NotFound)], "ok"),
        (vec![failing(), Reply::Valid], "ok_after_retry"),
        (
            vec![failing(), Reply::code(Code::NotFound)],
            "ok_after_retry",
        ),
        (vec![failing()], "failed"),
    ] {
        let (mut client, handle) = measured(&Upstream::replies(replies.clone()), config());
        let _ = validate(&mut client).await;
        assert_eq!(
            outcomes(&handle),
            set(&[&format!("{outcome} 1")]),
            "{replies:?}"
        );
    }

    // What the first call of a client was is not said of its second.
    let replies = vec![failing(), Reply::Valid, Reply::code(Code::NotFound)];
    let (mut client, handle) = measured(&Upstream::replies(replies), config());
    for _ in 0..2 {
        let _ = validate(&mut client).await;
    }
    assert_eq!(outcomes(&handle), set(&["ok 1", "ok_after_retry 1"]));

    let (mut client, handle) = measured(&Upstream::always(Reply::Hang), config());
    timeout(ms(10), validate(&mut client)).await.unwrap_err();
    assert_eq!(outcomes(&handle), set(&["cancelled 1"]));

    let (mut client, handle) = measured(&Upstream::always(Reply::Valid), config());
    let mut request = Request::new(ValidateUserRequest::default());
    let now = Deadline(Instant::now());
    request.extensions_mut().insert(now);
    client.validate_user(request).await.unwrap_err();
    assert_eq!(outcomes(&handle), set(&["rejected 1"]));
    let rejections = counted(&handle, "resilience_rejections_total", "reason");
    assert_eq!(rejections, set(&["deadline 1"]));
}
