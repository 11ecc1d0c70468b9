//! Shared subscriptions: which member of a group takes a message.

mod members;
pub(crate) mod reassignment;
mod shard_choice;
