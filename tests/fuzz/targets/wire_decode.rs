//! Bytes of a peer, cut anywhere, through the codec.
//! Decides nothing: `fuzz::stream::check` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::stream::check(input));
