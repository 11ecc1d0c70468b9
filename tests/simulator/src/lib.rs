//! A broker of several shards in one thread: real engines, bounded lanes between them, clients of both protocol versions,
//! virtual time and a schedule drawn from one seed. An oracle checks at every step that clients receive what the standard
//! promises. Invariant: no socket, no thread and no clock, so that a seed always gives the same run.
//!
//! [`run`] plays one seed, [`run_on_shards`] on as many shards as wanted. [`World`] and its parts serve tests that make their schedule by hand.

mod chance;
mod client;
mod crash;
mod disk;
mod identity;
mod lanes;
mod link;
mod log;
mod oracle;
mod script;
mod session;
mod settings;
mod settle;
mod shard;
mod trace;
mod verdicts;
mod world;

pub use chance::Chance;
pub use client::Subscribing;
pub use disk::{Crash, DiskSettings};
pub use identity::{ConnectOptions, Identity};
pub use oracle::Message;
pub use script::{run, run_judged, run_on_shards, run_with_crashes};
pub use settings::Settings;
pub use trace::{Failure, Report};
pub use world::World;
