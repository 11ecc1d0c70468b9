//! The check of each fuzz target, callable without libFuzzer. The targets call it with generated inputs, the tests in
//! `tests/` with the inputs in `corpus/`. Every check panics when a guarantee is violated.

mod choices;
mod host;
mod packets;
mod peer;

pub mod configuration;
pub mod differential;
mod error;
pub mod journal;
pub mod opening;
pub mod operations;
pub mod passwords;
mod process;
pub mod rules;
pub mod stream;
mod subscriptions;
pub mod tokens;
pub mod websocket;

mod auth;
#[expect(dead_code, unused_imports, reason = "the broker uses more of it than the checks do")]
#[path = "../../../src/config/mod.rs"]
mod config;
#[path = "../../../src/net/proxy.rs"]
mod proxy;
#[path = "../../../src/net/upgrade.rs"]
mod upgrade;
