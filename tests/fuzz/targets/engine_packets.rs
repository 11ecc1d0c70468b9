//! Clients of all versions and their host against one engine.
//! Decides nothing: `fuzz::operations::check_alone` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::operations::check_alone(input)));
