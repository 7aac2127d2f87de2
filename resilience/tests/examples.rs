//! The examples do what they say.

use std::process::Command;

/// Runs it as a person would.
fn run(example: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "-p", "resilience"])
        .args(["--example", example])
        .output()
        .expect("cargo runs this test");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {said}{errors}");
    said
}

#[test]
fn minimal_retries_and_is_refused() {
    let said = run("minimal");
    assert!(said.contains("Anna may order, after 1 retry"), "{said}");
    assert!(said.contains("refused here, nothing was sent"), "{said}");
}

#[test]
fn streaming_lasts_longer_than_any_other_call() {
    let said = run("streaming");
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains("NotServing"), "{said}");
}

#[test]
fn compose_sends_three_attempts() {
    let said = run("compose");
    assert_eq!(said.matches("an attempt goes out").count(), 3, "{said}");
    assert!(said.contains("the circuit is closed"), "{said}");
}

#[test]
fn metrics_are_those_of_a_call_with_a_retry() {
    let said = run("metrics");
    for line in [
        r#"grpc_client_attempt_started_total{grpc_target="user-service",grpc_method="user.UserService/ValidateUser"} 2"#,
        r#"resilience_calls_total{upstream="user-service",method="user.UserService/ValidateUser",outcome="ok_after_retry"} 1"#,
        r#"resilience_retry_budget_tokens{upstream="user-service"} 20"#,
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
}

#[test]
fn deadline_is_passed_on() {
    let said = run("deadline");
    let left = said
        .split("between: ")
        .nth(1)
        .and_then(|it| it.split(' ').next());
    let left: u64 = left.and_then(|left| left.parse().ok()).expect("it says");
    assert!((1..=400).contains(&left), "{said}");
    assert!(said.contains("the first attempt of "), "{said}");
}

#[test]
fn classifier_retries_aborted() {
    let said = run("classifier");
    assert!(said.contains("Anna may order"), "{said}");
    assert!(said.contains("the budget allows 20 more retries"), "{said}");
}
