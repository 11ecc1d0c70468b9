//! The shards of the process: one pinned thread for each, how the control plane speaks to them, and the counters they show.
//! A connection, a session and a message belong to exactly one shard; nothing here reads or keeps one of them.

pub(crate) mod control;
pub(crate) mod cores;
pub(crate) mod gauges;
pub(crate) mod placement_key;
pub(crate) mod thread;
