//! The password file. The check is `fuzz::passwords::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::passwords::check(input));
