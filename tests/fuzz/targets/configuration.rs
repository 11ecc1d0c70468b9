//! The operator's files: broker.conf, config.json and subscriptions.json. The check is `fuzz::configuration::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::configuration::check(input));
