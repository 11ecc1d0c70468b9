//! A WebSocket client's bytes, cut anywhere, and the frames that answer them. The check is `fuzz::websocket::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::websocket::check(input));
