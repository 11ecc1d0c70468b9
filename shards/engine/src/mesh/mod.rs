//! This shard among the others.

pub(crate) mod interest;
pub(crate) mod links;
pub(crate) mod message;
pub(crate) mod outbound;
pub(crate) mod topology;
