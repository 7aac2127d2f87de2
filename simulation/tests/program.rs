//! The program, as a person starts it.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know as such

use std::{fs, path::PathBuf, process::Command};

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn simulation(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_simulation"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A file of this test, with `text`.
fn file(name: &str, text: &str) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).unwrap();
    file
}

/// So few calls that a run is over at once.
const FEW: &str = "[traffic]\nrate = 20\nclients = 1\n";

#[test]
fn it_says_what_a_persons_own_settings_would_do() {
    let config = file("own.toml", &format!("[retry]\nmax_attempts = 1\n{FEW}"));
    let page = file("own.html", "");
    let said = simulation(&[
        "--config",
        config.to_str().unwrap(),
        "--script",
        "errors-50",
        "--seeds",
        "2",
        "--out",
        page.to_str().unwrap(),
    ]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let lines: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(lines.contains(&vec!["ours", "yours"]), "{}", said.out);
    let attempts = said.out.split("attempts per call").nth(1).unwrap();
    let row = attempts.lines().nth(2).unwrap();
    assert!(row.ends_with("1.00"), "no retries: {row}");
    let html = fs::read_to_string(page).unwrap();
    assert!(html.contains("<svg") && html.contains("yours"));
}

#[test]
fn it_tells_one_run_the_same_way_each_time() {
    let config = file("few.toml", FEW);
    let told = || {
        let said = simulation(&[
            "--config",
            config.to_str().unwrap(),
            "--script",
            "outage",
            "--explain",
            "1",
            "--from",
            "6s",
        ]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out
    };
    let one = told();
    assert!(one.contains("closed to open") && one.contains("half_open to closed"));
    assert_eq!(one, told());
}

#[test]
fn it_names_what_there_is() {
    let said = simulation(&["--list"]);
    assert_eq!(said.code, Some(0));
    for name in ["capacity-75", "errors-25", "ours", "finagle", "timeouts-4"] {
        assert!(said.out.contains(name), "{name}");
    }
}

#[test]
fn what_it_cannot_do_is_said_in_a_line() {
    let wrong = file("wrong.toml", "attempt_timeout = '2s'");
    for (arguments, part) in [
        (vec!["--script", "outtage"], "known are errors-1"),
        (vec!["--policy", "mine"], "known are none"),
        (
            vec!["--config", wrong.to_str().unwrap()],
            "attempt_timeout must be less",
        ),
        (vec!["--config", "/no/such/file"], "/no/such/file"),
        (
            vec!["--explain", "1", "--script", "outage,hang"],
            "one script",
        ),
        (
            vec!["--out", "/no/such/folder/x.html"],
            "/no/such/folder/x.html",
        ),
    ] {
        let said = simulation(&arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}");
        assert!(said.err.contains(part), "{arguments:?}: {}", said.err);
        assert!(said.out.is_empty());
    }
}
