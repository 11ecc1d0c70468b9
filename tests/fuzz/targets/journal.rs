//! The log of a shard, changed behind its back. The check is `fuzz::journal::check`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _outcome = fuzz::journal::check(input);
});
