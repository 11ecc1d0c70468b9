//! Retained messages: the store of this shard, and their replay to new subscriptions.

pub(crate) mod replay;
pub(crate) mod store;
pub(crate) mod watermarks;
