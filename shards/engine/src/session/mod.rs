//! The state that outlives a network connection: one session for each client identifier.

mod acks;
pub(crate) mod inflight;
mod redeliver;
pub(crate) mod snapshot;
mod subscribe;
pub(crate) mod table;
pub(crate) mod will;
