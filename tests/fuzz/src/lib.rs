//! What each fuzz target checks, callable without libFuzzer: the targets feed it what a fuzzer invents, the tests in
//! `tests/` what is kept in `corpus/`. Every check panics when a promise is broken.
//! Knows how inputs are read and what must hold; nothing here says what the broker does.

mod choices;
mod host;
mod packets;
mod peer;

pub mod configuration;
pub mod differential;
pub mod operations;
pub mod stream;
mod subscriptions;
mod error;

#[expect(dead_code, reason = "the configuration needs the name of the method alone")]
#[path = "../../../src/auth/mod.rs"]
mod auth;
#[expect(dead_code, unused_imports, reason = "the broker uses more of it than the checks do")]
#[path = "../../../src/config/mod.rs"]
mod config;
