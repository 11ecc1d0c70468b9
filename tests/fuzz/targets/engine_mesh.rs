//! The same against two or three engines with lanes between them.
//! Decides nothing: `fuzz::operations::check_mesh` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::operations::check_mesh(input)));
