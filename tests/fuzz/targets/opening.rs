//! The first bytes of a connection: HTTP's head and PROXY's header. The check is `fuzz::opening::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::opening::check(input));
