//! One packet, read by our codec and by another.
//! Decides nothing: `fuzz::differential::check` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::differential::check(input));
