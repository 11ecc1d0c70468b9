//! The check of each fuzz target, callable without libFuzzer. The targets call it with generated inputs, the tests in
//! `tests/` with the inputs in `corpus/`. Every check panics when a guarantee is violated.

mod choices;
mod host;
mod packets;
mod peer;

pub mod configuration;
pub mod differential;
pub mod operations;
pub mod stream;
mod subscriptions;
mod trouble;

#[expect(dead_code, reason = "the configuration needs only the name of the method")]
#[path = "../../../src/authentication.rs"]
mod authentication;
#[expect(dead_code, unused_imports, reason = "the checks use only a part of it")]
#[path = "../../../src/config/mod.rs"]
mod config;
