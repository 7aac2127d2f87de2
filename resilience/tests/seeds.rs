//! The fuzz targets with the inputs that are kept, and no fuzzer.
//!
//! Whatever a fuzzer finds is kept there, so it stays found.

use std::{fs, panic::catch_unwind, path::Path};

// The same functions that the fuzzer calls; it is they who need to be public.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Every seed of `target`, one after the other.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).expect("there are seeds") {
        let path = entry.expect("the folder can be read").path();
        let input = fs::read(&path).expect("a seed can be read");
        assert!(catch_unwind(|| check(&input)).is_ok(), "{}", path.display());
        seeds += 1;
    }
    assert!(seeds > 10, "{seeds} seeds in {}", folder.display());
}

#[test]
fn every_seed_of_a_timeout_is_read_as_the_specification_says() {
    replay("grpc_timeout", targets::grpc_timeout::check);
}

#[test]
fn every_seed_of_a_pushback_is_obeyed() {
    replay("pushback", targets::pushback::check);
}

#[test]
fn every_seed_of_responses_is_answered_in_time_and_counted() {
    replay("responses", targets::responses::check);
}

#[test]
fn every_seed_of_a_request_body_arrives_as_it_was_sent() {
    replay("replay", targets::replay::check);
}
