//! What the program was built from, and what it runs on.

use std::{env, process::Command, thread};

/// Names and values, for a reader who wants to repeat a run.
pub fn versions() -> Vec<(&'static str, String)> {
    let profile = match cfg!(debug_assertions) {
        true => "debug",
        false => "release",
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let mut versions = vec![(
        "load-test",
        format!("{} ({profile} build)", env!("CARGO_PKG_VERSION")),
    )];
    versions.extend(commit().map(|commit| ("commit", commit)));
    versions.extend([
        ("compiler", env!("LOAD_TEST_COMPILER").to_owned()),
        ("libraries", env!("LOAD_TEST_LIBRARIES").to_owned()),
        (
            "machine",
            format!("{} {}, {cores} cores", env::consts::OS, env::consts::ARCH),
        ),
    ]);
    versions
}

/// The commit, when it is certain: `cargo run` has just built what is checked out, and says
/// where that is. Anything else may run long after, and far away.
fn commit() -> Option<String> {
    let checkout = env::var_os("CARGO_MANIFEST_DIR")?;
    let output = Command::new("git")
        .arg("-C")
        .arg(checkout)
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let commit = text.trim();
    (output.status.success() && !commit.is_empty()).then(|| commit.to_owned())
}
