//! What counts is the end of the stream.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use resilience::{BreakerState, MethodConfig, TimeLimit};
use tokio::time::sleep;
use tokio_stream::{StreamExt as _, iter, pending};
use tonic::{Code, Status, Streaming, body::Body};
use tower::service_fn;

use super::{client_on, declared, endless, server, with};
use crate::{
    config,
    feed::{Note, WATCH, ask, note},
    metrics::{lines, recorded},
    ms,
    upstream::{Reply, Upstream},
};

/// Two messages, two seconds, and this end.
fn ends(end: Result<Note, Status>) -> crate::feed::FeedServer {
    server(move || {
        vec![
            (0, Ok(note("first"))),
            (0, Ok(note("second"))),
            (2_000, end.clone()),
        ]
    })
}

/// Reads two messages.
async fn read_two(notes: &mut Streaming<Note>) {
    for text in ["first", "second"] {
        assert_eq!(notes.message().await.unwrap().unwrap().user_name, text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_held_until_the_stream_ends_or_is_dropped() {
    let (mut client, layer) = client_on(ends(Ok(note("last"))), with(WATCH, endless()));
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    read_two(&mut notes).await;
    assert_eq!(layer.in_flight(), 1);
    assert_eq!(notes.message().await.unwrap().unwrap().user_name, "last");
    assert_eq!(layer.in_flight(), 1);
    assert_eq!(notes.message().await.unwrap(), None);
    assert_eq!(layer.in_flight(), 0);

    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    read_two(&mut notes).await;
    assert_eq!(layer.in_flight(), 1);
    drop(notes);
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_is_a_failure_when_it_does_and_not_a_success_before() {
    let breaks = ends(Err(Status::unavailable("gone")));
    let (mut client, layer) = client_on(breaks, with(WATCH, endless()));
    let mut streams = Vec::new();
    for _ in 0..27 {
        let mut notes = client.watch(ask("")).await.unwrap().into_inner();
        read_two(&mut notes).await;
        streams.push(notes);
    }
    // Nothing is known yet: one success would show as less than all failures.
    assert_eq!(layer.breaker().failure_ratio(), 0.0);
    for notes in &mut streams {
        sleep(ms(40)).await;
        assert_eq!(layer.breaker().state(), BreakerState::Closed);
        let status = notes.message().await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "gone")
        );
        assert_eq!(layer.breaker().failure_ratio(), 1.0);
    }
    assert_eq!(layer.breaker().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_caller_drops_counts_for_nothing() {
    let breaks = ends(Err(Status::unavailable("gone")));
    let (mut client, layer) = client_on(breaks, with(WATCH, endless()));
    for _ in 0..100 {
        let mut notes = client.watch(ask("")).await.unwrap().into_inner();
        read_two(&mut notes).await;
    }
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
    assert_eq!(layer.breaker().failure_ratio(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_metrics_of_a_stream_are_those_of_its_end() {
    let (layer, handle) = recorded("feed", with(WATCH, endless()));
    let target = r#"grpc_target="feed",grpc_method="feed.Feed/Watch""#;
    let upstream = r#"upstream="feed",method="feed.Feed/Watch""#;
    let series = |name: &str, status: &str| {
        format!(r#"grpc_client_{name}_duration_seconds_count{{{target},grpc_status="{status}"}}"#)
    };
    let outcome = |is: &str| format!(r#"resilience_calls_total{{{upstream},outcome="{is}"}}"#);
    let has = |series: String, value: u32| {
        let line = format!("{series} {value}");
        let lines = lines(&handle);
        assert!(lines.contains(&line), "{line}\nis not among\n{lines:#?}");
    };
    let client = |end| {
        use tower::Layer as _;
        crate::feed::FeedClient::new(layer.layer(ends(end)))
    };

    let mut notes = client(Ok(note("last")))
        .watch(ask(""))
        .await
        .unwrap()
        .into_inner();
    read_two(&mut notes).await;
    has(series("attempt", "OK"), 0);
    has(series("call", "OK"), 0);
    has(outcome("ok"), 0);
    notes.message().await.unwrap();
    notes.message().await.unwrap();
    has(series("attempt", "OK"), 1);
    has(series("call", "OK"), 1);
    has(outcome("ok"), 1);
    let took = format!(r#"grpc_client_call_duration_seconds_sum{{{target},grpc_status="OK"}} 2"#);
    assert!(
        lines(&handle).iter().any(|line| line.starts_with(&took)),
        "to its end, and not to its head"
    );

    let end = Err(Status::unavailable("gone"));
    let mut notes = client(end).watch(ask("")).await.unwrap().into_inner();
    read_two(&mut notes).await;
    notes.message().await.unwrap_err();
    has(series("attempt", "UNAVAILABLE"), 1);
    has(series("call", "UNAVAILABLE"), 1);
    has(outcome("failed"), 1);

    let end = Ok(note("unread"));
    let mut notes = client(end).watch(ask("")).await.unwrap().into_inner();
    read_two(&mut notes).await;
    drop(notes);
    has(outcome("cancelled"), 1);
    has(series("attempt", "OK"), 1);
    has(series("attempt", "UNAVAILABLE"), 1);
}

/// Opens the circuit, and waits until the next call is a probe.
async fn trip(
    upstream: &Upstream,
    client: &mut crate::feed::FeedClient<resilience::Resilience<Upstream>>,
) {
    upstream.becomes(Reply::code(Code::Unavailable));
    for _ in 0..27 {
        sleep(ms(40)).await;
        client.watch(ask("")).await.unwrap_err();
    }
    sleep(ms(600)).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_streams_settles_at_its_first_message() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, layer) = client_on(upstream.clone(), with(WATCH, endless()));
    trip(&upstream, &mut client).await;

    upstream.becomes(Reply::HangAfterMessage);
    let mut first = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(layer.breaker().state(), BreakerState::HalfOpen);
    first.message().await.unwrap().unwrap();
    let mut second = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(layer.breaker().state(), BreakerState::HalfOpen);
    second.message().await.unwrap().unwrap();

    assert_eq!(layer.breaker().state(), BreakerState::Closed);
    assert_eq!(layer.in_flight(), 2, "and both go on");
    drop((first, second));
    assert_eq!(layer.in_flight(), 0);
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_head_alone_proves_nothing() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, layer) = client_on(upstream.clone(), declared());
    trip(&upstream, &mut client).await;

    upstream.becomes(Reply::HangAfterHead);
    let mut probes = Vec::new();
    for _ in 0..5 {
        probes.push(client.watch(ask("")).await.unwrap().into_inner());
    }
    assert_eq!(layer.breaker().state(), BreakerState::HalfOpen);
    for probe in &mut probes {
        let status = probe.message().await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
    assert_eq!(layer.breaker().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_any_limit_does_not_keep_the_circuit_half_open() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, layer) = client_on(upstream.clone(), with(WATCH, endless()));
    trip(&upstream, &mut client).await;

    // Nobody will ever hear of these again.
    upstream.becomes(Reply::HangAfterHead);
    let mut lost = Vec::new();
    for _ in 0..5 {
        lost.push(client.watch(ask("")).await.unwrap());
    }
    client.watch(ask("")).await.unwrap_err();
    assert_eq!(layer.breaker().state(), BreakerState::HalfOpen);

    upstream.becomes(Reply::Valid);
    let mut waited = ms(0);
    while layer.breaker().state() != BreakerState::Closed {
        if let Ok(notes) = client.watch(ask("")).await {
            notes.into_inner().message().await.unwrap();
        }
        sleep(ms(100)).await;
        waited += ms(100);
        assert!(waited < ms(5_000), "it stays {:?}", layer.breaker().state());
    }
    drop(lost);
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_may_take_long_is_waited_for() {
    // Longer than any call has by default.
    let slow = MethodConfig {
        deadline: TimeLimit::None,
        attempt_timeout: TimeLimit::After(ms(10_000)),
        ..MethodConfig::default()
    };
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, layer) = client_on(upstream.clone(), with(WATCH, slow));
    trip(&upstream, &mut client).await;

    upstream.becomes(Reply::After(ms(3_000), Box::new(Reply::Valid)));
    let mut calls = Vec::new();
    for _ in 0..40 {
        let mut client = client.clone();
        calls.push(tokio::spawn(async move {
            let notes = client.watch(ask("")).await;
            notes?.into_inner().message().await
        }));
        sleep(ms(100)).await;
    }
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
    drop(calls);
}

/// It would have gone on: that its time was up says nothing of the upstream.
#[tokio::test(start_paused = true)]
async fn a_stream_whose_time_is_up_counts_for_nothing_once_it_has_begun() {
    let often = || (0..100).map(|_| (30, Ok(note("tick")))).collect();
    let (mut client, layer) = client_on(server(often), declared());
    for _ in 0..60 {
        let mut notes = client.watch(ask("")).await.unwrap().into_inner();
        while notes.message().await.is_ok() {}
        // By a caller whose own timer is as late.
        let mut notes = client.watch(ask("")).await.unwrap().into_inner();
        notes.message().await.unwrap();
        sleep(ms(1_100)).await;
        drop(notes);
    }
    assert_eq!(layer.breaker().state(), BreakerState::Closed);
    assert_eq!(layer.breaker().failure_ratio(), 0.0);

    // One that never began is a failure.
    let (mut client, layer) = client_on(Upstream::always(Reply::Hang), declared());
    client.watch(ask("")).await.unwrap_err();
    assert!(layer.breaker().failure_ratio() > 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_lasts_is_not_slow() {
    let mut config = with(WATCH, endless());
    config.breaker.slow_after = Some(ms(100));
    let (mut client, layer) = client_on(ends(Ok(note("last"))), config);
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    while notes.message().await.unwrap().is_some() {}
    assert_eq!(layer.breaker().failure_ratio(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_stream_holds_for_a_reader_that_is_slower_than_it() {
    // Twenty messages that are there at once, a frame each, and nothing more.
    let service = service_fn(|_: Request<Body>| async {
        let mut message = vec![0, 0, 0, 0, 0];
        note("waits").encode(&mut message).unwrap();
        message[4] = u8::try_from(message.len() - 5).unwrap();
        let frame = move |_| Ok::<_, Status>(Frame::data(Bytes::from(message.clone())));
        let frames = iter(0..20).map(frame).chain(pending());
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", grpc);
        Ok::<_, Infallible>(response)
    });
    let (mut client, layer) = client_on(service, declared());
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    let mut read = 0;
    let status = loop {
        match notes.message().await {
            Ok(_) => read += 1,
            Err(status) => break status,
        }
        sleep(ms(300)).await;
    };
    assert_eq!(status.code(), Code::DeadlineExceeded);
    // At 0, 300, 600 and 900 ms of a second.
    assert_eq!((read, layer.in_flight()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_well_pays_into_the_budget_at_its_end() {
    let (mut client, layer) = client_on(ends(Ok(note("last"))), {
        let mut config = with(WATCH, endless());
        config.budget.deposit = 1.0;
        config.idempotent = [WATCH].into();
        config
    });
    // Spend one.
    let upstream = Upstream::replies([Reply::code(Code::Unavailable)]);
    let mut failing = {
        use tower::Layer as _;
        crate::feed::FeedClient::new(layer.layer(upstream))
    };
    failing.watch(ask("")).await.unwrap_err();
    assert_eq!(layer.budget_tokens(), 18.0);

    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    read_two(&mut notes).await;
    assert_eq!(layer.budget_tokens(), 18.0);
    notes.message().await.unwrap();
    notes.message().await.unwrap();
    assert_eq!(layer.budget_tokens(), 19.0);
}

#[tokio::test(start_paused = true)]
async fn an_undeclared_stream_is_limited_as_a_unary_call_is() {
    let (mut client, layer) = client_on(ends(Ok(note("last"))), config());
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    read_two(&mut notes).await;
    let status = notes.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        (layer.in_flight(), layer.breaker().failure_ratio()),
        (0, 1.0)
    );
}
