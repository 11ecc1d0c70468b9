//! mosquitto's acl_file, names, topics and filters. The check is `fuzz::rules::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::rules::check(input));
