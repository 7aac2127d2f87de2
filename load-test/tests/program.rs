//! The program as people and scripts use it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

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
fn whoever_watches_is_told_where_the_metrics_are_and_sees_the_phase_and_the_calls() {
    let directory = tempfile::tempdir().unwrap();
    let arguments =
        "--rate 50 --phases steady=3s --metrics-port 0 --announce here.json --out - --no-color";
    let child = load_test(directory.path(), arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let here = directory.path().join("here.json");
    let until = Instant::now() + Duration::from_secs(20);
    let mut page = String::new();
    loop {
        assert!(
            Instant::now() < until,
            "no call was seen to start in a phase: {page}"
        );
        let announced = fs::read_to_string(&here).ok();
        page = announced.and_then(|text| scrape(&text)).unwrap_or_default();
        let started = page.lines().find_map(|line| {
            line.strip_prefix("load_test_calls_started_total ")?
                .parse::<u64>()
                .ok()
        });
        let steady = page.contains("load_test_phase{phase=\"steady\"} 1");
        if steady && started.is_some_and(|started| started > 0) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }

    let output = child.wait_with_output().unwrap();
    // On a busy machine there is no verdict about so few calls, and that is 1.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    assert!(!here.exists(), "a target that is gone is announced");
    // Asked for so, the report is all that goes to standard output.
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.starts_with("<!doctype html>"), "{report}");
    assert!(report.trim_end().ends_with("</html>"), "{report}");
}

/// The page of the first target that was announced.
fn scrape(announced: &str) -> Option<String> {
    let targets: Value = serde_json::from_str(announced).ok()?;
    let address = targets[0]["targets"][0].as_str()?;
    let mut stream = TcpStream::connect(address).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
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
        ("--duration 5s", "--duration must be from 17s"),
        ("--announce here.json", "--metrics-port"),
        ("--out - --json -", "only one of them"),
    ] {
        let output = run(directory.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{arguments}: {error}");
        assert!(error.contains(reason), "{arguments}: {error}");
    }
}
