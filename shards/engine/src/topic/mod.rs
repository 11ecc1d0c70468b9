//! The topic tree of one shard: its topic filters, and which subscriptions each of them has.
//!
//! `tree` is the room's surface. `filters` holds the filters, `subscriptions`, `members` and `groups` hold the things attached to
//! them, `trie` and `match_cache` find the filters of a topic.

mod filters;
pub(crate) mod groups;
mod literals;
mod match_cache;
pub(crate) mod members;
pub(crate) mod subscriptions;
pub(crate) mod sys;
pub(crate) mod tree;
mod trie;
