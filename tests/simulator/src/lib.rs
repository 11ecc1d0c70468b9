//! A broker of several shards in one thread: real engines, bounded lanes between them, clients of both protocol versions,
//! virtual time and a schedule drawn from one seed. An oracle checks at every step that clients receive what the standard
//! promises. Invariant: no socket, no thread and no clock, so that a seed always gives the same run.
//!
//! [`run`] plays one seed. [`World`] and its parts serve tests with a hand-made schedule.

mod chance;
mod client;
mod identity;
mod lanes;
mod link;
mod oracle;
mod script;
mod session;
mod settings;
mod settle;
mod shard;
mod trace;
mod world;

pub use chance::Chance;
pub use client::Subscribing;
pub use identity::{ConnectOptions, Identity};
pub use oracle::Message;
pub use script::run;
pub use settings::Settings;
pub use trace::{Failure, Report};
pub use world::World;
