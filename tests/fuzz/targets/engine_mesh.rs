//! Clients of all versions and their hosts with two or three engines and lanes between them. The check is
//! `fuzz::operations::check_mesh`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::operations::check_mesh(input)));
