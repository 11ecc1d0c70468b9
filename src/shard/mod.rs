//! The shards of the process: one pinned thread for each, the requests of the control plane to them, and the counters
//! they publish.
//! Each connection, session and message belongs to exactly one shard, so this room holds none of them.

pub(crate) mod control;
pub(crate) mod cores;
pub(crate) mod engines;
pub(crate) mod gauges;
pub(crate) mod memory_share;
pub(crate) mod placement_key;
pub(crate) mod rest;
pub(crate) mod thread;
#[cfg_attr(not(feature = "admin"), expect(dead_code, reason = "the admin thread reads it"))]
pub(crate) mod view;
