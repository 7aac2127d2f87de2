//! The examples run, say what they promise, and end.
//!
//! `cargo test` builds them; `cargo test --test examples` alone does not.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, timeout};

/// Longest time for an example, on a machine that is busy.
const LONGEST: Duration = Duration::from_secs(30);

/// The program of `example`, beside the folder of this test.
fn program(example: &str) -> PathBuf {
    let mut path = env::current_exe().expect("a test has a path");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("{example}{}", env::consts::EXE_SUFFIX));
    let source = format!("{}/examples/{example}.rs", env!("CARGO_MANIFEST_DIR"));
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    assert!(
        changed(&path).is_some_and(|built| Some(built) > changed(Path::new(&source))),
        "{example} is not built, or not since it was changed: \
         cargo test does it, unless told to build this test alone"
    );
    path
}

/// Runs `example`, and looks for `words` in what it prints, in this order.
async fn says(example: &str, words: &[&str]) {
    let path = program(example);
    let started = Instant::now();
    let run = tokio::task::spawn_blocking(move || Command::new(path).stdin(Stdio::null()).output());
    let output = timeout(LONGEST, run)
        .await
        .expect("it ends")
        .expect("it does not panic here")
        .expect("it can be started");
    let took = started.elapsed();

    let text = String::from_utf8(output.stdout).expect("it prints text");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {text}\n{errors}");
    let mut rest = text.as_str();
    for word in words {
        let found = rest.find(word);
        let at = found.unwrap_or_else(|| panic!("{example} does not say {word:?}: {text}"));
        rest = &rest[at + word.len()..];
    }
    println!("{example} took {took:?}");
}

#[tokio::test]
async fn the_minimal_client_retries_refuses_and_recovers() {
    let words = [
        "\"Ada\"",
        "after 1 retry",
        "calls were refused here",
        "The circuit is open",
        "The circuit was closed",
    ];
    says("minimal", &words).await;
}

#[tokio::test]
async fn a_stream_with_settings_of_its_own_outlives_the_deadline_of_the_others() {
    let words = [
        "Serving, and 0 of the slots taken",
        "NotServing, and 0",
        "has seen enough",
        "DeadlineExceeded",
    ];
    says("streaming", &words).await;
}

#[tokio::test]
async fn layers_composed_by_hand_do_what_the_stack_does() {
    let words = [
        "x-request-id: 1",
        "grpc-timeout: 250000u",
        "x-request-id: 1",
        "grpc-previous-rpc-attempts: 1",
        "grpc-previous-rpc-attempts: 2",
        "after 2 retries",
        "x-request-id: 2",
        "after 0 retries",
        "saw 4 requests",
    ];
    says("compose", &words).await;
}

#[tokio::test]
async fn policies_of_ones_own_are_obeyed() {
    let words = [
        "after 2 retries",
        "4 are left",
        "made 4 retries",
        "because of: budget",
    ];
    says("classifier", &words).await;
}
