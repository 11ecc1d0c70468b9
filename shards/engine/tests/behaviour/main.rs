//! The behaviour of the engine through its one entrance: bytes and events in, packets and actions out. There is one file for each
//! subject; `host` runs the engine, `client` writes and reads packets.

mod ack_gate;
mod aliases;
mod authentication;
mod branching;
mod bridges;
mod client;
mod close_reasons;
mod connect;
mod crashes;
mod crashing;
mod durability;
mod expiry;
mod features;
mod flow;
mod garbage;
mod host;
mod judging;
mod listeners;
mod log;
mod log_room;
mod long_fan_outs;
mod memory;
mod mesh_crashes;
mod notices;
mod operator;
mod oracle;
mod owing;
mod owners;
mod pauses;
mod portable;
mod pressure;
mod publish;
mod queues;
mod random;
mod rates;
mod records;
mod retained;
mod rivals;
mod rules;
mod sessions;
mod shared;
mod shedding;
mod slices;
mod sources;
mod subscriptions;
mod survey;
mod sys;
mod timeouts;
mod transfers;
mod two_shards;
mod unjudged;
mod users;
mod wills;

/// Whether every shard writes a log, from which another one is recovered at the end of each test.
const LOGGED: bool = false;
