//! Tokens and sets of keys. The check is `fuzz::tokens::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::tokens::check(input));
