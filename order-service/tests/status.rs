//! `order-service status`, asked of a program that really runs.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Output, Stdio},
};

use common::{Orders, order};

/// The program, with nothing in its environment but these.
fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_order-service"));
    command
        .env_clear()
        .env("DATABASE_URL", "sqlite::memory:")
        .envs([("PORT", "0"), ("METRICS_PORT", "0"), ("ADMIN_PORT", "0")])
        .envs(variables.iter().copied());
    command
}

/// A program that serves; killed at the end of the test, however it ends.
struct Serving {
    child: Child,
    grpc: SocketAddr,
    admin: SocketAddr,
}

impl Serving {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = program(variables).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut log = String::new();
        while !log.contains(" admin=") {
            assert_ne!(output.read_line(&mut log).unwrap(), 0, "it ended: {log}");
        }
        // Nobody reads on, but its log must have somewhere to go.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let address = |field: &str| {
            let (_, rest) = log.split_once(field).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            child,
            grpc: address(" grpc="),
            admin: address(" admin="),
        }
    }

    /// What `status` prints about it.
    fn status(&self) -> String {
        let output = status(&[("ADMIN_PORT", &self.admin.port().to_string())], &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = program(variables);
    command.arg("status").args(args).output().unwrap()
}

/// The one line of a status that did not work.
fn refused(variables: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String) {
    let output = status(variables, args);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(output.stdout.is_empty());
    (output.status.code(), line)
}

#[tokio::test]
async fn a_status_shows_the_breaker_why_it_tripped_and_what_is_left() {
    let settings = user_service::Settings {
        chaos: "off".parse().unwrap(),
        ..user_service::Settings::default()
    };
    let users = user_service::start(settings).await.unwrap();
    let address = users.grpc_addr().to_string();
    let serving = Serving::start(&[
        ("USER_SERVICE_URL", &address),
        ("RESILIENCE_BUDGET_CAPACITY", "7"),
    ]);
    let client = Orders::at(serving.grpc);
    client.order().await;

    let well = serving.status();

    for line in [
        "order-service, up ",
        "\nuser-service\n",
        "\n  circuit      closed\n",
        "\n  failing      0 % of the attempts",
        "\n  last trip    none\n",
        "\n  budget       7.0 of 7 retries\n",
        "\n  in flight    0 of 100\n",
        "\n  queued       0 of 50\n",
        "\n  transitions  none\n",
    ] {
        assert!(well.contains(line), "{line:?} is not in\n{well}");
    }

    users.stop().await;
    // It is sure after 27 attempts, or after 50 in a row.
    for _ in 0..200 {
        client.create(order("user-123")).await.unwrap();
    }

    let ill = serving.status();

    assert!(!ill.contains("circuit      closed"), "{ill}");
    let trip = ill
        .lines()
        .find(|line| line.starts_with("  last trip"))
        .unwrap();
    assert!(
        ["failure_ratio", "consecutive_failures", "probes_failed"]
            .iter()
            .any(|reason| trip.ends_with(reason)),
        "{ill}"
    );
    assert!(
        trip.contains(": ") && trip.contains('T') && trip.contains("Z: "),
        "{ill}"
    );
    assert!(ill.contains(" -> open: "), "{ill}");
    assert!(!ill.contains("budget       7.0"), "{ill}");
}

#[test]
fn a_service_without_the_resilient_client_has_no_breaker_to_show() {
    let serving = Serving::start(&[("RESILIENCE", "off")]);
    let text = serving.status();
    assert!(
        text.contains("no resilient client: RESILIENCE=off"),
        "{text}"
    );
}

#[test]
fn the_admin_port_is_on_the_loopback_address_whatever_the_host_is() {
    let serving = Serving::start(&[("HOST", "0.0.0.0")]);
    assert!(serving.grpc.ip().is_unspecified());
    assert!(serving.admin.ip().is_loopback());
}

#[test]
fn a_status_that_nobody_answers_says_whom_it_asked() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let port = free.port().to_string();
    for (variables, args) in [
        (&[("ADMIN_PORT", &*port)][..], &[][..]),
        (&[][..], &["--address", &format!("127.0.0.1:{port}")][..]),
    ] {
        let (exit, line) = refused(variables, args);
        assert_eq!(exit, Some(1));
        assert!(
            line.contains(&format!("no status from 127.0.0.1:{port}: cannot connect")),
            "{line}"
        );
    }
}

#[test]
fn a_status_of_something_that_is_silent_gives_up() {
    // It accepts, by the kernel, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let (exit, line) = refused(&[("ADMIN_PORT", &port)], &[]);
    assert_eq!(exit, Some(1));
    assert!(line.contains("no answer within 1.5s"), "{line}");
}

#[test]
fn a_setting_that_leaves_nothing_to_ask_is_named() {
    for (value, allowed) in [
        ("off", "leaves nothing to ask"),
        ("0", "does not say where to ask"),
        ("yes", "must be off, or a number"),
    ] {
        let (exit, line) = refused(&[("ADMIN_PORT", value)], &[]);
        assert_eq!(exit, Some(2), "{line}");
        assert!(
            line.contains(&format!("ADMIN_PORT=\"{value}\" {allowed}")),
            "{line}"
        );
    }
}

#[test]
fn an_admin_port_that_is_taken_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = program(&[("ADMIN_PORT", &port)]).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(
        line.contains(&format!(
            "ADMIN_PORT={port}: cannot listen on 127.0.0.1:{port}"
        )),
        "{line}"
    );
}
