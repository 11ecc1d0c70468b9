//! The state machine of one shard: connections, sessions, subscriptions, retained messages.
//!
//! Pure by construction: `no_std`, so a clock, a socket, a thread or a randomly seeded map does not
//! exist here. Time and chance are arguments. Whoever hosts the engine feeds it what happened through
//! [`Engine::step`], carries out the [`Action`]s it asks for and moves the bytes of its outboxes; the
//! order of calls is told at [`Engine`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod acks;
mod alias;
mod audit;
mod authentication;
mod connect;
mod connection;
mod counters;
mod deliver;
mod disconnect;
mod engine;
mod event;
mod flow;
mod gate;
mod groups;
mod hash;
mod interest;
mod lane;
mod limits;
mod lookup;
mod members;
mod mesh;
mod message;
mod moves;
mod outbox;
mod publish;
mod pump;
mod receive;
mod record;
mod retained;
mod said;
mod send;
mod session;
mod slab;
mod stores;
mod subscribe;
mod sys;
mod time;
mod timer;
mod topology;
mod tree;
mod wheel;
mod will;
mod words;

pub use audit::{Audit, SessionAudit};
pub use authentication::{AuthenticationStep, Verdict};
pub use connection::{Admission, ConnectionId};
pub use counters::{Counters, DropReason};
pub use disconnect::CLOSE_REASONS;
pub use engine::Engine;
pub use event::{Action, Actions, Batch, ClosedBy, Consumed, Event};
pub use hash::Entropy;
pub use lane::{BLOCK_BYTES, Inbound, Lane, Large, Parcel};
pub use limits::{Limits, QueueFull, Redirect};
pub use outbox::{Chunk, Lend};
pub use record::{SessionRecord, SubscriptionRecord};
pub use time::Instant;
pub use topology::{SHARDS_MAX, Topology};
