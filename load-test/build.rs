//! Notes what the program is built from, so that a report can say how to repeat it.
//!
//! Nothing here fails a build: what cannot be found out is "unknown".

use std::{env, fs, path::Path, process::Command};

/// The libraries whose versions decide how the services behave.
const LIBRARIES: [&str; 4] = ["tonic", "hyper", "h2", "tokio"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    // Both change with a commit; absent outside a checkout, where the second would make
    // every build run this again.
    if Path::new("../.git/logs/HEAD").exists() {
        println!("cargo:rerun-if-changed=../.git/logs/HEAD");
    }

    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    set("BUILT_WITH", output(&rustc, &["--version"]));
    set(
        "BUILT_FROM",
        output("git", &["rev-parse", "--short=12", "HEAD"]),
    );
    set(
        "BUILT_ON",
        fs::read_to_string("../Cargo.lock")
            .ok()
            .map(|lock| libraries(&lock)),
    );
}

fn set(name: &str, value: Option<String>) {
    let value = value.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=LOAD_TEST_{name}={value}");
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// `tonic 0.14.9, hyper 1.12.0, ...`, as the lock file says.
fn libraries(lock: &str) -> String {
    let version = |name: &str| {
        let package = lock.split("[[package]]").find(|package| {
            package
                .lines()
                .any(|line| line == format!("name = \"{name}\""))
        })?;
        let version = package
            .lines()
            .find_map(|line| line.strip_prefix("version = "))?;
        Some(format!("{name} {}", version.trim_matches('"')))
    };
    let found: Vec<String> = LIBRARIES.into_iter().filter_map(version).collect();
    found.join(", ")
}
