//! The fuzz target of the `CHAOS` grammar with the inputs that are kept, and no
//! fuzzer.

use std::{fs, panic::catch_unwind, path::Path};

// The same function that the fuzzer calls; it is the fuzzer who needs it public.
#[allow(unreachable_pub)]
#[path = "../../resilience/fuzz/src/chaos.rs"]
mod chaos;

#[test]
fn every_seed_reads_back_as_it_is_written_or_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resilience/fuzz/seeds/chaos");
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).expect("there are seeds") {
        let path = entry.expect("the folder can be read").path();
        let input = fs::read(&path).expect("a seed can be read");
        assert!(
            catch_unwind(|| chaos::check(&input)).is_ok(),
            "{}",
            path.display()
        );
        seeds += 1;
    }
    assert!(seeds > 10, "{seeds} seeds in {}", folder.display());
}
