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
fn classifier_retries_aborted() {
    let said = run("classifier");
    assert!(said.contains("Anna may order"), "{said}");
    assert!(said.contains("the budget allows 20 more retries"), "{said}");
}
