//! A peer's bytes, cut anywhere, through the codec. The check is `fuzz::stream::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::stream::check(input));
