//! Clients of all versions and their host with one engine. The check is `fuzz::operations::check_alone`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::operations::check_alone(input)));
