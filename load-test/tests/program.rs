//! The program as people and scripts use it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn load_test(directory: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_load-test"));
    command
        .current_dir(directory)
        .args(arguments.split_whitespace());
    command
}

fn run(directory: &Path, arguments: &str) -> Output {
    let output = load_test(directory, arguments).output();
    output.expect("the program is built for this test")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The first phase of this name.
fn phase<'a>(document: &'a Value, name: &str) -> &'a Value {
    let phases = document["resilient"]["phases"].as_array().unwrap();
    let found = phases.iter().find(|phase| phase["phase"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {phases:#?}"))
}

#[test]
fn a_run_walks_its_phases_and_leaves_a_report_a_picture_and_figures() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = "--rate 50 --phases steady=2s,stopped=2s,recovery=4s \
                     --out r.html --plot p.svg --json -";
    let output = run(directory.path(), arguments);
    let document = json(&output);

    // What is printed for people does not get between the figures.
    let for_people = String::from_utf8_lossy(&output.stderr);
    assert!(for_people.contains("steady") && for_people.contains("r.html"));

    assert_eq!(document["ending"], "complete");
    // Generous: on a busy machine, calls start late, and so in the next phase.
    let steady = phase(&document, "steady")["success"].as_f64().unwrap();
    assert!(steady > 0.5, "{steady}");
    let stopped = phase(&document, "stopped")["success"].as_f64().unwrap();
    assert!(stopped < 0.5, "the user service was really gone: {stopped}");
    let attempts = phase(&document, "recovery")["attempts_per_call"].as_f64();
    assert!(
        attempts.is_some_and(|attempts| attempts > 0.1),
        "{attempts:?}"
    );

    let recovered = document["resilient"]["claims"].as_array().unwrap();
    let recovered = recovered
        .iter()
        .find(|claim| claim["when"] == "from 2 s after a fault");
    assert_eq!(recovered.unwrap()["verdict"], "passed", "{document:#}");

    let report = fs::read_to_string(directory.path().join("r.html")).unwrap();
    assert!(report.starts_with("<!doctype html>") && report.contains("</html>"));
    let picture = fs::read_to_string(directory.path().join("p.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>"));
}

#[test]
fn an_interrupted_run_leaves_the_report_so_far() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = "--rate 50 --phases steady=1s,hang=50s,recovery=9s --json f.json";
    let mut child = load_test(directory.path(), arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first_phase_over = lines.any(|line| line.unwrap().contains("steady"));
    assert!(first_phase_over);
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());

    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let rest = rest.join("\n");
    assert!(rest.contains("not reached: interrupted"), "{rest}");
    assert!(directory.path().join("load-test-report.html").exists());
    let figures = fs::read_to_string(directory.path().join("f.json")).unwrap();
    let document: Value = serde_json::from_str(&figures).unwrap();
    assert_eq!(document["ending"], "interrupted");
}

#[test]
fn what_cannot_be_used_is_refused_in_one_line_with_status_2() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, reason) in [
        ("--phases storm=8s", "unknown phase \"storm\""),
        ("--phases hang=8", "a duration with a unit"),
        ("--rate 0", "1 to 20000"),
        ("--metrics localhost:1", "--target"),
        ("--target https://a:1", "host:port"),
        ("--target localhost:1 --phases short", "--chaos-target"),
        ("--target localhost:1 --compare", "--compare"),
        (
            "--target localhost:1 --chaos-target localhost:1",
            "chaos at",
        ),
        ("--out missing/report.html", "missing/report.html"),
        ("--storm", "--storm"),
    ] {
        let output = run(directory.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{arguments}: {error}");
        assert!(error.contains(reason), "{arguments}: {error}");
    }
}
