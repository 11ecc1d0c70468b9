//! The operator's files: broker.conf, config.json and subscriptions.json.
//! Decides nothing: `fuzz::configuration::check` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::configuration::check(input));
