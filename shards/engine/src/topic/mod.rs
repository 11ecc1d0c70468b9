//! From a topic to its subscribers: the filters of this shard, and which subscriptions hang at each.

mod match_cache;
mod pool;
pub(crate) mod tree;
mod trie;
