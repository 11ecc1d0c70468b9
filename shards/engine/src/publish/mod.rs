//! The way of a message from its publisher to the sessions of this shard.

pub(crate) mod fan_out;
pub(crate) mod route;
pub(crate) mod send;
pub(crate) mod sys;
