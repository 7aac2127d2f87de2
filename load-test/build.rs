//! Notes what the program is built with, so that a report can say how to repeat it.
//!
//! Nothing here fails a build: what cannot be found out is "unknown". The commit is not among
//! it: every commit would make for another build.

use std::{env, fs, process::Command};

/// The libraries whose versions decide how the services behave.
const LIBRARIES: [&str; 4] = ["tonic", "hyper", "h2", "tokio"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../Cargo.lock");

    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    set("COMPILER", version_of(&rustc));
    let lock = fs::read_to_string("../Cargo.lock");
    set("LIBRARIES", lock.ok().map(|lock| libraries(&lock)));
}

fn set(name: &str, value: Option<String>) {
    let value = value.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=LOAD_TEST_{name}={value}");
}

fn version_of(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// `tonic 0.14.9, hyper 1.12.0, ...`, as the lock file says.
fn libraries(lock: &str) -> String {
    let version = |name: &str| {
        let named = format!("name = \"{name}\"");
        let package = lock
            .split("[[package]]")
            .find(|package| package.lines().any(|line| line == named))?;
        let version = package
            .lines()
            .find_map(|line| line.strip_prefix("version = "))?;
        Some(format!("{name} {}", version.trim_matches('"')))
    };
    let found: Vec<String> = LIBRARIES.into_iter().filter_map(version).collect();
    found.join(", ")
}
