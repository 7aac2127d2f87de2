//! What the tests share: a service that really runs, and clients for it.
#![allow(dead_code)] // each test file uses a part
#![allow(clippy::unwrap_used)] // allowed in tests, and this is part of them

use std::net::SocketAddr;

use proto::{
    chaos::v1::{SetRequest, chaos_client::ChaosClient},
    user::{ValidateUserRequest, user_service_client::UserServiceClient},
};
use service_kit::Running;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Request, Status, transport::Channel};
use user_service::{Settings, start};

/// Starts a service on free ports.
pub(crate) async fn service(chaos: &str, chaos_api: bool) -> Running {
    start(Settings {
        chaos: chaos.parse().unwrap(),
        chaos_api,
        ..Settings::default()
    })
    .await
    .unwrap()
}

pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

pub(crate) async fn users(service: &Running) -> UserServiceClient<Channel> {
    UserServiceClient::new(channel(service.grpc_addr()).await)
}

pub(crate) fn validate(user_id: &str) -> Request<ValidateUserRequest> {
    Request::new(ValidateUserRequest {
        user_id: user_id.to_owned(),
    })
}

/// Changes the faults over gRPC.
pub(crate) async fn set_chaos(service: &Running, chaos: &str) -> Result<String, Status> {
    let mut client = ChaosClient::new(channel(service.grpc_addr()).await);
    let reply = client
        .set(SetRequest {
            chaos: chaos.to_owned(),
        })
        .await?;
    Ok(reply.into_inner().chaos)
}

/// Status line, headers and body of a `GET` to the metrics port.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The value of one series of a scrape.
pub(crate) fn value(scrape: &str, series: &str) -> Option<f64> {
    scrape
        .lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// Scrapes until a series has reached `at_least`: until the service has come
/// that far with a call that is under way.
pub(crate) async fn reached(address: SocketAddr, series: &str, at_least: f64) {
    for _ in 0..1000 {
        let scrape = get(address, "/metrics").await;
        if value(&scrape, series).is_some_and(|value| value >= at_least) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{series} did not reach {at_least}");
}
