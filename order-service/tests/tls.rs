//! Doors: who gets in, whom a client believes, and new certificates without a
//! restart.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use common::{
    Orders,
    certificates::{Authority, Identity},
    program::Program,
    scrape, value,
};
use order_service::{Settings, UserServiceTls};
use proto::user::{ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::ConnectConfig;
use service_kit::{
    Running, ServeSettings,
    tls::{ClientFiles, SecureConnector, TlsSettings},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::sleep};
use tonic::{Code, transport::Channel};

/// How often files are looked at, and a little more.
const LOOKED_AT: Duration = Duration::from_millis(1100);

/// A service behind this certificate; with an authority, for those it knows.
fn behind(identity: &Identity, client_ca: Option<PathBuf>) -> ServeSettings {
    ServeSettings {
        tls: TlsSettings {
            cert: Some(identity.cert.clone()),
            key: Some(identity.key.clone()),
            client_ca,
        },
        ..ServeSettings::default()
    }
}

async fn users(serve: ServeSettings) -> Running {
    let settings = user_service::Settings {
        serve,
        ..user_service::Settings::default()
    };
    user_service::start(settings).await.unwrap()
}

/// A channel that believes `ca`, and shows `identity`.
fn channel(address: SocketAddr, ca: PathBuf, identity: Option<&Identity>) -> Channel {
    let files = ClientFiles {
        ca: ("CA", ca),
        identity: identity.map(|it| [("CERT", it.cert.clone()), ("KEY", it.key.clone())]),
        name: None,
    };
    let secure = SecureConnector::new(&files).unwrap();
    let url = format!("https://localhost:{}", address.port());
    resilience::connect_through(&url, ConnectConfig::default(), |tcp| secure.through(tcp)).unwrap()
}

/// Whether a call over this channel gets an answer.
async fn gets_in(channel: Channel) -> bool {
    let request = ValidateUserRequest {
        user_id: "user-123".into(),
    };
    match UserServiceClient::new(channel).validate_user(request).await {
        Ok(answer) => answer.into_inner().valid,
        Err(status) => {
            // Of the connection; whoever is in is answered. INTERNAL is what h2
            // makes of an alert that it takes for a frame.
            assert!(
                matches!(
                    status.code(),
                    Code::Unavailable | Code::Unknown | Code::Internal
                ),
                "{status:?}"
            );
            false
        }
    }
}

async fn calls(service: &Running) -> f64 {
    let series = "grpc_server_call_started_total{grpc_method=\"user.UserService/ValidateUser\"}";
    value(&scrape(service).await, series).unwrap()
}

#[tokio::test]
async fn without_a_certificate_of_ours_nobody_gets_in() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let ours = Authority::new("ours", folder);
    let theirs = Authority::new("theirs", folder);
    let ca = || Authority::file(folder, "ours");
    let server = ours.identity("server", &["localhost"]);
    let known = ours.identity("known", &["a caller"]);
    let stranger = theirs.identity("stranger", &["a caller"]);
    let service = users(behind(&server, Some(ca()))).await;
    let address = service.grpc_addr();

    assert!(gets_in(channel(address, ca(), Some(&known))).await);
    let before = calls(&service).await;
    assert!(!gets_in(channel(address, ca(), None)).await);
    assert!(!gets_in(channel(address, ca(), Some(&stranger))).await);
    let plain = Channel::from_shared(format!("http://{address}")).unwrap();
    assert!(!gets_in(plain.connect_lazy()).await);
    // And a caller who does not believe the server does not come in either.
    let doubting = channel(address, Authority::file(folder, "theirs"), Some(&known));
    assert!(!gets_in(doubting).await);
    assert_eq!(
        calls(&service).await,
        before,
        "nothing of theirs was served"
    );
    assert!(gets_in(channel(address, ca(), Some(&known))).await);
}

#[tokio::test]
async fn a_caller_who_says_nothing_does_not_keep_others_waiting() {
    let place = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours", place.path());
    let server = ours.identity("server", &["localhost"]);
    let service = users(behind(&server, None)).await;
    let mut silent = TcpStream::connect(service.grpc_addr()).await.unwrap();

    let ca = Authority::file(place.path(), "ours");
    assert!(gets_in(channel(service.grpc_addr(), ca, None)).await);

    // It is sent away in the end, and not before.
    let started = tokio::time::Instant::now();
    let read = silent.read_u8().await;
    assert!(read.is_err());
    assert!(started.elapsed() > Duration::from_secs(4), "{read:?}");
}

/// An order service that asks users at `address` over TLS, and its answer to an
/// order: status and error.
async fn ordered(address: SocketAddr, tls: UserServiceTls, enabled: bool) -> (String, String) {
    let mut settings = Settings {
        user_service_url: format!("localhost:{}", address.port()),
        user_service_tls: tls,
        ..Settings::default()
    };
    settings.resilience.enabled = enabled;
    let orders = order_service::start(settings).await.unwrap();
    let answer = Orders::of(&orders).order().await;
    (answer.status, answer.error_message)
}

fn user_service_tls(ca: PathBuf, identity: &Identity, name: Option<&str>) -> UserServiceTls {
    UserServiceTls {
        ca: Some(ca),
        cert: Some(identity.cert.clone()),
        key: Some(identity.key.clone()),
        name: name.map(str::to_owned),
    }
}

#[tokio::test]
async fn the_order_service_asks_over_mutual_tls_and_only_whom_it_believes() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let ours = Authority::new("ours", folder);
    let _theirs = Authority::new("theirs", folder);
    let ca = |name| Authority::file(folder, name);
    let server = ours.identity("server", &["users.internal"]);
    let caller = ours.identity("caller", &["orders.internal"]);
    let service = users(behind(&server, Some(ca("ours")))).await;
    let address = service.grpc_addr();

    for enabled in [true, false] {
        let named = user_service_tls(ca("ours"), &caller, Some("users.internal"));
        let (status, error) = ordered(address, named, enabled).await;
        assert_eq!(status, "CREATED", "{error}");
    }
    let before = calls(&service).await;
    for tls in [
        // Not its name; and not its authority.
        user_service_tls(ca("ours"), &caller, None),
        user_service_tls(ca("theirs"), &caller, Some("users.internal")),
        UserServiceTls::default(),
    ] {
        let (status, error) = ordered(address, tls, true).await;
        assert_eq!(status, "ERROR");
        assert!(error.contains("failed remotely: UNAVAILABLE"), "{error}");
    }
    assert_eq!(calls(&service).await, before);
}

#[tokio::test]
async fn new_certificates_are_used_without_a_restart_and_bad_ones_are_not() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let old = Authority::new("old", folder);
    let server = old.identity("server", &["localhost"]);
    let service = users(behind(&server, None)).await;
    let believes = |name| {
        let channel = channel(service.grpc_addr(), Authority::file(folder, name), None);
        gets_in(channel)
    };
    let new = Authority::new("new", folder);
    assert!(believes("old").await && !believes("new").await);

    new.identity("server", &["localhost"]);
    sleep(LOOKED_AT).await;
    assert!(believes("new").await && !believes("old").await);

    // A key that is none, and a certificate that does not fit the key.
    for file in [&server.key, &server.cert] {
        let kept = std::fs::read(file).unwrap();
        std::fs::write(file, "nothing").unwrap();
        sleep(LOOKED_AT).await;
        assert!(believes("new").await, "the last good ones are in use");
        std::fs::write(file, kept).unwrap();
    }
}

fn healthcheck(port: u16, variables: &[(&str, &Path)]) -> (Option<i32>, String) {
    let asked = Command::new(env!("CARGO_BIN_EXE_order-service"))
        .env_clear()
        .env("PORT", port.to_string())
        .envs(variables.iter().copied())
        .arg("healthcheck")
        .output()
        .unwrap();
    let line = String::from_utf8(asked.stderr).unwrap();
    (asked.status.code(), line)
}

#[tokio::test]
async fn healthcheck_finds_a_service_behind_tls() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let ours = Authority::new("ours", folder);
    let ca = Authority::file(folder, "ours");
    let server = ours.identity("server", &["orders.internal"]);
    let stranger = Authority::new("theirs", folder).identity("stranger", &["localhost"]);
    let text = |path: &Path| path.display().to_string();
    let service = Program::start(
        env!("CARGO_BIN_EXE_order-service"),
        &[
            ("TLS_CERT", &text(&server.cert)),
            ("TLS_KEY", &text(&server.key)),
            ("TLS_CLIENT_CA", &text(&ca)),
            ("ADMIN_PORT", "off"),
        ],
    );
    let port = service.grpc.port();

    let with = |it: &Identity| healthcheck(port, &[("TLS_CERT", &it.cert), ("TLS_KEY", &it.key)]);
    assert_eq!(with(&server).0, Some(0));
    let (code, line) = with(&stranger);
    assert_eq!(code, Some(1), "somebody else answers there");
    assert!(line.contains("it shows another certificate"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert_eq!(healthcheck(port, &[]).0, Some(1));
}
