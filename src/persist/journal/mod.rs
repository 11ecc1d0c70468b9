//! The logs of the shards in the data directory: one for each shard, whose records bring sessions, subscriptions and messages back
//! after a crash. `shards/journal` decides what is written and when; this folder does it.
//!
//! ```text
//! journal/identity.a, identity.b      the key of homes, the number of logs, the number of this start
//! journal/GENERATION/SHARD/N.log      segments
//! journal/GENERATION/SHARD/P.checkpoint
//! ```
//! Invariants: a shard never waits for a disk, so threads of the log do the I/O and ring its doorbell. Nothing is written before the
//! number of the start is durable. The lock on the data directory keeps a second process away.

mod executor;
mod files;
mod recovery;
mod start;
#[cfg(test)]
mod tests;

pub(crate) use executor::Executor;
pub(crate) use files::{Directory, Done, sync_names};
pub(crate) use recovery::{Place, Read, read_log};
pub(crate) use start::Opened;
