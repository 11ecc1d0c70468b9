//! The parts that every room stands on: slots with generations, the timer wheel, keyed hashes, moments.

pub(crate) mod hash;
pub(crate) mod slab;
pub(crate) mod time;
pub(crate) mod timer_wheel;
