//! The program itself: settings, exit codes, signals.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{SocketAddr, TcpListener},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use common::{channel, reached, validate};
use proto::user::{ValidateUserResponse, user_service_client::UserServiceClient};
use tokio::{task::JoinHandle, time::Instant};
use tonic::{Response, Status};

/// The program, with nothing in its environment but these, and users in memory
/// unless they say otherwise.
fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_user-service"));
    command
        .env_clear()
        .env("DATABASE_URL", "sqlite::memory:")
        .envs(variables.iter().copied());
    command
}

/// Runs a program that ends by itself.
fn run(variables: &[(&str, &str)], args: &[&str]) -> Output {
    program(variables).args(args).output().unwrap()
}

/// A program that serves; killed at the end of the test, however it ends.
struct Serving {
    child: Child,
    output: BufReader<ChildStdout>,
    /// What it logged until it served.
    begin: String,
    grpc: SocketAddr,
    metrics: SocketAddr,
}

impl Serving {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = program(&[("PORT", "0"), ("METRICS_PORT", "0")])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let begin = read_until(&mut output, " grpc=");
        let address = |field: &str| {
            let (_, rest) = begin.split_once(field).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            child,
            output,
            grpc: address(" grpc="),
            metrics: address(" metrics="),
            begin,
        }
    }

    fn wait_for(&mut self, text: &str) {
        read_until(&mut self.output, text);
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// The exit code, and what was still logged.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.output.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status();
    assert!(sent.unwrap().success());
}

/// Reads lines until one has `text`.
fn read_until(output: &mut BufReader<ChildStdout>, text: &str) -> String {
    let mut lines = String::new();
    while !lines.contains(text) {
        let read = output.read_line(&mut lines).unwrap();
        assert_ne!(read, 0, "it ended before {text:?}: {lines}");
    }
    lines
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn a_bad_setting_is_one_line_that_names_the_variable_the_value_and_what_is_allowed() {
    for (variable, value, allowed) in [
        ("PORT", "http", "must be a number from 0 to 65535"),
        ("METRICS_PORT", "70000", "must be a number from 0 to 65535"),
        ("METRICS_PORT", "50051", "must be a port other than PORT"),
        ("HOST", "localhost", "must be an IP address"),
        ("CHAOS", "error=2", "must be a share from 0 to 1"),
        ("CHAOS", "flakey", "must be off, flaky, slow"),
        ("CHAOS_API", "true", "must be on or off"),
        ("DATABASE_URL", "mysql://host/users", "must be sqlite:PATH"),
        ("DRAIN_TIMEOUT", "1000y", "must be at most 1h"),
        ("LOG_FORMAT", "xml", "must be text or json"),
        ("RUST_LOG", "user_service=loud", "must be a level"),
    ] {
        let output = run(&[(variable, value)], &[]);
        let line = String::from_utf8(output.stderr).unwrap();

        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(&format!("{variable}={value:?}")), "{line}");
        assert!(line.contains(allowed), "{line}");
    }
}

#[test]
fn a_port_that_is_taken_is_one_line_that_names_the_variable() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (variable, other) in [("PORT", "METRICS_PORT"), ("METRICS_PORT", "PORT")] {
        let output = run(&[(variable, &port), (other, "0")], &[]);
        let line = String::from_utf8(output.stderr).unwrap();

        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(
            line.contains(&format!("{variable}={port}: cannot listen")),
            "{line}"
        );
    }
}

#[test]
fn help_lists_every_setting_with_its_variable_and_default() {
    let output = run(&[("CHAOS", "hang=0.125"), ("RUST_LOG", "")], &["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");

    assert_eq!(output.status.code(), Some(0));
    for (variable, default) in [
        ("HOST", "127.0.0.1"),
        ("PORT", "50051"),
        ("METRICS_PORT", "9051"),
        ("IN_FLIGHT_MAX", "1000"),
        ("DRAIN_TIMEOUT", "8s"),
        ("REUSE_PORT", "off"),
        ("DATABASE_URL", "sqlite:data/user-service.db"),
        ("CHAOS", "off"),
        ("CHAOS_API", "off"),
        ("RUST_LOG", "info"),
        ("LOG_FORMAT", "text"),
    ] {
        assert!(
            help.contains(&format!("[env: {variable}] [default: {default}]")),
            "{help}"
        );
    }
    assert!(!help.contains("0.125"), "a value in the help: {help}");
}

#[test]
fn an_empty_variable_is_unset_and_the_values_in_force_are_logged() {
    let service = Serving::start(&[("CHAOS", ""), ("HOST", ""), ("LOG_FORMAT", "")]);
    assert!(service.grpc.ip().is_loopback());
    let in_force = "HOST=127.0.0.1 PORT=0 METRICS_PORT=0 IN_FLIGHT_MAX=1000 DRAIN_TIMEOUT=8s REUSE_PORT=off DATABASE_URL=sqlite::memory: CHAOS=off CHAOS_API=off RUST_LOG=info";
    assert!(service.begin.contains(in_force), "{}", service.begin);
}

#[test]
fn healthcheck_exits_with_0_for_a_service_that_serves_and_1_for_none() {
    let service = Serving::start(&[("HOST", "0.0.0.0")]);
    let port = service.grpc.port().to_string();
    let healthy = run(&[("HOST", "0.0.0.0"), ("PORT", &port)], &["healthcheck"]);
    assert_eq!(healthy.status.code(), Some(0), "{healthy:?}");

    let hung = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts and never answers
    let port = hung.local_addr().unwrap().port().to_string();
    let started = Instant::now();
    let unhealthy = run(&[("PORT", &port)], &["healthcheck"]);
    assert_eq!(unhealthy.status.code(), Some(1), "{unhealthy:?}");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );

    drop(hung);
    let unhealthy = run(&[("PORT", &port)], &["healthcheck"]);
    let line = String::from_utf8(unhealthy.stderr).unwrap();
    assert_eq!(
        (unhealthy.status.code(), line.lines().count()),
        (Some(1), 1),
        "{line}"
    );
}

#[test]
fn an_idle_program_stops_at_once_when_asked() {
    for signal in ["TERM", "INT"] {
        let service = Serving::start(&[]);
        let started = Instant::now();
        service.signal(signal);

        let (code, log) = service.end();

        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains(&format!("SIG{signal}: stopping")), "{log}");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
    }
}

#[test]
fn a_program_that_waits_for_its_database_stops_at_once_when_asked() {
    let database = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts and never answers
    let url = format!("postgres://{}/users", database.local_addr().unwrap());
    let mut child = program(&[("PORT", "0"), ("METRICS_PORT", "0"), ("DATABASE_URL", &url)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _asked = database.accept().unwrap();
    let started = Instant::now();
    signal(&child, "TERM");

    let mut log = String::new();
    let mut output = child.stdout.take().unwrap();
    output.read_to_string(&mut log).unwrap();

    assert_eq!(child.wait().unwrap().code(), Some(0), "{log}");
    assert!(log.contains("SIGTERM: stopping"), "{log}");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

/// A program with a call that hangs.
async fn hanging() -> (
    Serving,
    JoinHandle<Result<Response<ValidateUserResponse>, Status>>,
) {
    let service = Serving::start(&[("CHAOS", "hang")]);
    let mut users = UserServiceClient::new(channel(service.grpc).await);
    let call = tokio::spawn(async move { users.validate_user(validate("user-123")).await });
    let hung = "chaos_injected_total{kind=\"hang\",method=\"user.UserService/ValidateUser\"}";
    reached(service.metrics, hung, 1.0).await;
    (service, call)
}

#[tokio::test]
async fn a_program_whose_calls_hang_still_stops_with_0_within_ten_seconds() {
    let (service, call) = hanging().await;
    let started = Instant::now();
    service.signal("TERM");

    let (code, log) = tokio::task::spawn_blocking(|| service.end()).await.unwrap();

    assert_eq!(code, Some(0), "{log}");
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert!(log.contains("cutting off 1 connections"), "{log}");
    assert!(log.contains("outcome=\"cancelled\""), "{log}");
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn a_second_signal_stops_a_program_at_once() {
    let (mut service, _call) = hanging().await;
    let started = Instant::now();
    service.signal("TERM");
    service.wait_for("SIGTERM: stopping");
    service.signal("INT");

    let (code, log) = tokio::task::spawn_blocking(|| service.end()).await.unwrap();

    assert_eq!(code, Some(0), "{log}");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}
