//! What the engine does, seen through its one entrance: bytes and events in, packets and actions out.
//! One file for each noun; `host` runs the engine, `client` says and reads packets.

mod ack_gate;
mod aliases;
mod authentication;
mod client;
mod close_reasons;
mod connect;
mod expiry;
mod features;
mod flow;
mod garbage;
mod host;
mod memory;
mod operator;
mod oracle;
mod publish;
mod queues;
mod random;
mod records;
mod retained;
mod sessions;
mod shared;
mod subscriptions;
mod sys;
mod timeouts;
mod two_shards;
mod wills;
