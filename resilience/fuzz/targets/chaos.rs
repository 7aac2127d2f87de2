#![no_main]

// Not in the library: that is also built where there is no user service.
#[path = "../src/chaos.rs"]
mod chaos;

libfuzzer_sys::fuzz_target!(|input: &[u8]| chaos::check(input));
