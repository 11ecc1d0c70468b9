//! One packet, decoded by our codec and by another. The check is `fuzz::differential::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::differential::check(input));
