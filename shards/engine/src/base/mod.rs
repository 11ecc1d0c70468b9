//! The parts that every room stands on: identities, slots with and without generations, lists and tables that grow without a pause, the
//! timer wheel, keyed hashes, moments, secrets, sizes on the heap.

pub(crate) mod by_hash;
pub(crate) mod byte_reader;
pub(crate) mod fingerprint;
pub(crate) mod hash;
pub(crate) mod heap;
pub(crate) mod ids;
pub(crate) mod index;
pub(crate) mod long_list;
pub(crate) mod long_queue;
pub(crate) mod pool;
pub(crate) mod secret;
pub(crate) mod shard_set;
pub(crate) mod slab;
pub(crate) mod slots;
pub(crate) mod sparse;
pub(crate) mod time;
pub(crate) mod timer_wheel;
