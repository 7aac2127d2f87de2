#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| resilience_fuzz::grpc_timeout::check(input));
