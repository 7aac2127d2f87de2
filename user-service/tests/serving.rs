//! What every service does: health, reflection, metrics port, shutdown.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{channel, get, reached, service, set_chaos, users, validate};
use service_kit::ServeSettings;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};
use user_service::{Settings, start};

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn health_speaks_for_the_server_and_for_the_service() {
    let service = service("off", true).await;
    let mut health = HealthClient::new(channel(service.grpc_addr()).await);

    for name in ["", "user.UserService", "chaos.v1.Chaos"] {
        let reply = health.check(about(name)).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving, "{name:?}");
    }
    let status = health.check(about("order.OrderService")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn those_who_watch_health_hear_of_the_stop_and_do_not_hold_it_up() {
    let service = service("off", false).await;
    let mut health = HealthClient::new(channel(service.grpc_addr()).await);
    let mut watch = health
        .watch(about("user.UserService"))
        .await
        .unwrap()
        .into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let started = Instant::now();

    let (last, ()) = tokio::join!(watch.message(), service.stop());

    assert_eq!(last.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

/// The services that v1 lists, and then how it answers for a symbol.
async fn reflect_v1(channel: Channel, symbol: &str) -> (Vec<String>, Option<i32>) {
    use v1::{
        ServerReflectionRequest as Ask, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let ask = |message| Ask {
        host: String::new(),
        message_request: Some(message),
    };
    let asked = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(symbol.to_owned())),
    ]);
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(asked)
        .await
        .unwrap()
        .into_inner();
    let listed = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else {
        panic!("{listed:?}")
    };
    let error = match answers.message().await {
        Ok(answer) => match answer.unwrap().message_response.unwrap() {
            MessageResponse::FileDescriptorResponse(_) => None,
            MessageResponse::ErrorResponse(error) => Some(error.error_code),
            other => panic!("{other:?}"),
        },
        Err(status) => Some(status.code() as i32),
    };
    (
        listed
            .service
            .into_iter()
            .map(|service| service.name)
            .collect(),
        error,
    )
}

#[tokio::test]
async fn reflection_shows_what_is_served_and_nothing_else() {
    let own = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    for (chaos_api, services) in [
        (false, vec!["user.UserService"]),
        (true, vec!["user.UserService", "chaos.v1.Chaos"]),
    ] {
        let service = service("off", chaos_api).await;
        let channel = channel(service.grpc_addr()).await;

        let (listed, error) = reflect_v1(channel.clone(), "user.UserService").await;
        assert_eq!(listed, [&services[..], &own].concat());
        assert_eq!(error, None);
        let (_, error) = reflect_v1(channel.clone(), "chaos.v1.Chaos").await;
        assert_eq!(error.is_none(), chaos_api);
        let (_, error) = reflect_v1(channel, "order.OrderService").await;
        assert_eq!(error, Some(Code::NotFound as i32));
    }
}

#[tokio::test]
async fn reflection_answers_the_old_protocol_too() {
    use v1alpha::{
        ServerReflectionRequest as Ask, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let service = service("off", false).await;
    let symbol = MessageRequest::FileContainingSymbol("user.UserService.ValidateUser".into());
    let asked = tokio_stream::iter([Ask {
        host: String::new(),
        message_request: Some(symbol),
    }]);

    let mut answers = ServerReflectionClient::new(channel(service.grpc_addr()).await)
        .server_reflection_info(asked)
        .await
        .unwrap()
        .into_inner();

    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(
        matches!(answer, MessageResponse::FileDescriptorResponse(_)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_metrics_port_has_metrics_and_nothing_else() {
    let service = service("off", false).await;

    let answer = get(service.metrics_addr(), "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("\r\ncontent-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    for path in ["/", "/metrics/", "/health", "/user.UserService/GetUser"] {
        let answer = get(service.metrics_addr(), path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_stop_lets_a_call_finish_and_takes_no_new_ones() {
    let service = service("latency=500ms", false).await;
    let (address, metrics) = (service.grpc_addr(), service.metrics_addr());
    let mut users = users(&service).await;
    let call = tokio::spawn(async move { users.validate_user(validate("user-123")).await });
    let delayed = "chaos_injected_total{kind=\"latency\",method=\"user.UserService/ValidateUser\"}";
    reached(metrics, delayed, 1.0).await;

    service.stop().await;

    assert!(call.await.unwrap().unwrap().into_inner().valid);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(TcpStream::connect(metrics).await.is_err());
}

async fn stops_at_once(service: service_kit::Running) {
    let started = Instant::now();
    service.stop().await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_a_stop() {
    let service = service("off", false).await;
    let mut users = users(&service).await;
    users.validate_user(validate("user-123")).await.unwrap();

    stops_at_once(service).await;
}

/// A connection that has said this, and says no more.
async fn said(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_connection_that_does_not_begin_is_closed() {
    let service = service("off", false).await;
    let (grpc, metrics) = (service.grpc_addr(), service.metrics_addr());
    let started = Instant::now();

    for mut stream in [
        said(grpc, "").await,
        said(grpc, "PRI * HTTP/2.0\r\n").await,
        said(grpc, "GET / HTTP/1.1\r\n\r\n").await,
        said(metrics, "").await,
        said(metrics, "GET /metrics HTTP/1.1\r\nHost:").await,
    ] {
        let mut said = Vec::new();
        let closed = timeout(Duration::from_secs(15), stream.read_to_end(&mut said)).await;
        closed.expect("it was closed").ok();
    }

    assert!(started.elapsed() > Duration::from_secs(4));
    let mut users = users(&service).await;
    users.validate_user(validate("user-123")).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_does_not_begin_does_not_hold_up_a_stop() {
    let service = service("off", false).await;
    let address = service.grpc_addr();
    let _silent = [said(address, "").await, said(address, "PRI * ").await];
    // Accepted in order: those two are by now.
    let mut users = users(&service).await;
    users.validate_user(validate("user-123")).await.unwrap();

    stops_at_once(service).await;
}

#[tokio::test]
async fn a_service_that_is_dropped_cuts_its_calls() {
    let service = service("hang", false).await;
    let (address, metrics) = (service.grpc_addr(), service.metrics_addr());
    let mut users = users(&service).await;
    let call = tokio::spawn(async move { users.validate_user(validate("user-123")).await });
    let hung = "chaos_injected_total{kind=\"hang\",method=\"user.UserService/ValidateUser\"}";
    reached(metrics, hung, 1.0).await;
    let started = Instant::now();

    drop(service);

    call.await.unwrap().unwrap_err();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn one_call_too_many_is_turned_away_while_health_and_operators_are_answered() {
    let service = start(Settings {
        chaos: "hang".parse().unwrap(),
        chaos_api: true,
        serve: ServeSettings {
            in_flight_max: 3,
            ..ServeSettings::default()
        },
        ..Settings::default()
    })
    .await
    .unwrap();
    let users = users(&service).await;
    let call = || {
        let mut users = users.clone();
        async move { users.validate_user(validate("user-123")).await }
    };
    let hanging: Vec<_> = (0..3).map(|_| tokio::spawn(call())).collect();
    let hung = "chaos_injected_total{kind=\"hang\",method=\"user.UserService/ValidateUser\"}";
    reached(service.metrics_addr(), hung, 3.0).await;

    let refused = call().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let pushback = refused.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(pushback.unwrap(), "200");
    let turned_away = "grpc_server_calls_not_begun_total{grpc_method=\"user.UserService/ValidateUser\",reason=\"overload\"}";
    reached(service.metrics_addr(), turned_away, 1.0).await;
    let mut health = HealthClient::new(channel(service.grpc_addr()).await);
    let reply = health.check(about("user.UserService")).await.unwrap();
    assert_eq!(reply.into_inner().status(), ServingStatus::Serving);

    set_chaos(&service, "off").await.unwrap();
    for call in hanging {
        assert!(call.await.unwrap().is_ok());
    }
    assert!(call().await.is_ok());
}
