//! The program itself: settings and exit codes.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

use std::process::{Command, Output};

use order_service::Settings;

/// Runs the program, with nothing in its environment but these, and orders in
/// memory unless they say otherwise.
fn run(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_order-service"));
    command
        .env_clear()
        .env("DATABASE_URL", "sqlite::memory:")
        .envs(variables.iter().copied())
        .args(args);
    command.output().unwrap()
}

#[test]
fn a_bad_setting_is_one_line_that_names_the_variable_the_value_and_what_is_allowed() {
    for (variable, value, allowed) in [
        (
            "USER_SERVICE_URL",
            "https://users:1",
            "needs USER_SERVICE_TLS_CA beside it",
        ),
        ("DATABASE_URL", "orders.db", "must be sqlite:PATH"),
        ("TLS_CERT", "cert.pem", "needs TLS_KEY beside it"),
        ("TLS_CLIENT_CA", "ca.pem", "needs TLS_CERT and TLS_KEY"),
        ("USER_SERVICE_TLS_CA", "/nowhere/ca.pem", "cannot be read"),
        (
            "USER_SERVICE_TLS_KEY",
            "key.pem",
            "needs USER_SERVICE_TLS_CA",
        ),
        ("RESILIENCE", "yes", "must be on or off"),
        ("RESILIENCE_DEADLINE", "500", "must be a time with its unit"),
        ("RESILIENCE_DEADLINE", "0s", "must be more than zero"),
        (
            "RESILIENCE_ATTEMPT_TIMEOUT",
            "1s",
            "must be less than the RESILIENCE_DEADLINE of 1s",
        ),
        (
            "RESILIENCE_MAX_ATTEMPTS",
            "6",
            "must be a number from 1 to 5",
        ),
        (
            "RESILIENCE_BACKOFF_INITIAL",
            "1s",
            "must be at most RESILIENCE_BACKOFF_MAX",
        ),
        (
            "RESILIENCE_BUDGET_DEPOSIT",
            "2",
            "must be a number from 0 to 1",
        ),
        (
            "RESILIENCE_CONCURRENCY_LIMIT",
            "0",
            "must be a number from 1 to 1000000",
        ),
        (
            "RESILIENCE_BREAKER_FAILURE_RATIO",
            "0",
            "must be more than 0",
        ),
        ("RESILIENCE_BREAKER_WINDOW", "1m", "must be at most"),
        ("RESILIENCE_CONNECT_TIMEOUT", "0s", "must be more than zero"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "localhost:4317",
            "must be http://host:port",
        ),
    ] {
        let output = run(
            &[("PORT", "0"), ("METRICS_PORT", "0"), (variable, value)],
            &[],
        );
        let line = String::from_utf8(output.stderr).unwrap();

        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(&format!("{variable}=\"")), "{line}");
        assert!(line.contains(allowed), "{line}");
    }
}

#[test]
fn one_port_for_two_purposes_is_refused_by_name() {
    // With REUSE_PORT the system would let both have it.
    for reuse_port in ["off", "on"] {
        let ports = [
            ("PORT", "9252"),
            ("ADMIN_PORT", "9252"),
            ("METRICS_PORT", "0"),
            ("REUSE_PORT", reuse_port),
        ];
        let output = run(&ports, &[]);
        let line = String::from_utf8(output.stderr).unwrap();

        assert_eq!(output.status.code(), Some(2), "{line}");
        let refused = "ADMIN_PORT=\"9252\" must be a port other than PORT and METRICS_PORT";
        assert!(line.contains(refused), "{line}");
    }
}

#[test]
fn help_lists_every_setting_with_its_variable_and_default() {
    let output = run(
        &[
            ("USER_SERVICE_URL", "elsewhere:1"),
            ("DATABASE_URL", "postgres://me:s3cret@elsewhere/orders"),
        ],
        &["--help"],
    );
    let help = String::from_utf8(output.stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");

    assert_eq!(output.status.code(), Some(0));
    for (variable, default) in [
        ("HOST", "127.0.0.1"),
        ("PORT", "50052"),
        ("METRICS_PORT", "9052"),
        ("IN_FLIGHT_MAX", "1000"),
        ("DRAIN_TIMEOUT", "8s"),
        ("REUSE_PORT", "off"),
        ("DATABASE_URL", "sqlite:data/order-service.db"),
        ("USER_SERVICE_URL", "localhost:50051"),
        ("ADMIN_PORT", "9152"),
        ("RESILIENCE", "on"),
        ("RESILIENCE_DEADLINE", "1s"),
        ("RESILIENCE_ATTEMPT_TIMEOUT", "250ms"),
        ("RESILIENCE_MAX_ATTEMPTS", "3"),
        ("RESILIENCE_BACKOFF_INITIAL", "25ms"),
        ("RESILIENCE_BACKOFF_MAX", "250ms"),
        ("RESILIENCE_BUDGET_CAPACITY", "20"),
        ("RESILIENCE_BUDGET_DEPOSIT", "0.2"),
        ("RESILIENCE_CONCURRENCY_LIMIT", "100"),
        ("RESILIENCE_QUEUE_LIMIT", "50"),
        ("RESILIENCE_QUEUE_TIMEOUT", "100ms"),
        ("RESILIENCE_BREAKER_FAILURE_RATIO", "0.8"),
        ("RESILIENCE_BREAKER_WINDOW", "2s"),
        ("RESILIENCE_BREAKER_OPEN_INITIAL", "500ms"),
        ("RESILIENCE_BREAKER_OPEN_MAX", "1s"),
        ("RESILIENCE_BREAKER_PROBES", "5"),
        ("RESILIENCE_CONNECT_TIMEOUT", "500ms"),
        ("RUST_LOG", "info"),
        ("LOG_FORMAT", "text"),
    ] {
        assert!(
            help.contains(&format!("[env: {variable}] [default: {default}]")),
            "{help}"
        );
    }
    assert!(
        help.contains("[env: OTEL_EXPORTER_OTLP_ENDPOINT]"),
        "{help}"
    );
    assert!(!help.contains("elsewhere"), "a value in the help: {help}");
}

#[test]
fn an_embedded_service_starts_from_the_defaults_of_the_program() {
    let settings = Settings::default();
    assert_eq!(settings.user_service_url, "localhost:50051");
    assert!(settings.resilience.enabled);
    assert_eq!(settings.resilience.deadline.as_millis(), 1000);
}

#[test]
fn a_password_is_in_no_message() {
    for (variable, value) in [
        ("DATABASE_URL", "mysql://me:s3cret@host/orders"),
        ("DATABASE_URL", "host=db password=s3cret"),
        ("DATABASE_URL", "host=db password = s3cret"),
        ("DATABASE_URL", "postgres:me:s3cret@host/orders"),
        ("DATABASE_URL", "postgres://me:s3cret@127.0.0.1:1/orders"),
        ("USER_SERVICE_URL", "http://me:s3cret@host:1"),
        ("USER_SERVICE_URL", "me:s3cret@host:50051"),
    ] {
        let output = run(
            &[("PORT", "0"), ("METRICS_PORT", "0"), (variable, value)],
            &[],
        );
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8(said).unwrap();

        assert!(!output.status.success(), "{said}");
        assert!(said.contains(&format!("{variable}=")), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }

    for mistyped in ["postgres://me:s3cret@host/orders", "me:s3\ncret@host"] {
        let output = run(&[], &[mistyped]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("***@host"), "{said}");
        assert!(!said.contains("s3"), "{said}");
    }
}
