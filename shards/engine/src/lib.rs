//! The state machine of one shard: connections, sessions, subscriptions, retained messages.
//!
//! Pure by construction: `no_std`, so a clock, a socket, a thread or a randomly seeded map does not
//! exist here. Time and chance are arguments. Whoever hosts the engine feeds it what happened through
//! [`Engine::step`], carries out the [`Action`]s it asks for and moves the bytes of its outboxes; the
//! order of calls is told at [`Engine`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod action;
mod base;
mod connection;
mod counters;
mod engine;
mod event;
mod limits;
mod memory;
mod mesh;
mod message;
mod publish;
mod retained;
mod session;
mod shared;
mod timer;
mod topic;
mod turn;

pub use action::{Action, Actions, Batch};
pub use base::hash::Entropy;
pub use base::ids::ConnectionId;
pub use base::time::Instant;
pub use connection::Admission;
pub use connection::authenticate::{AuthenticationStep, Verdict};
pub use connection::disconnect::CLOSE_REASONS;
pub use connection::outbox::{Chunk, Lend};
pub use counters::{Counters, DropReason};
pub use engine::{Audit, Engine, SessionAudit};
pub use event::{ClosedBy, Consumed, Event};
pub use limits::{Limits, QueueFull, Redirect};
pub use memory::MemoryUse;
pub use mesh::outbound::{BLOCK_BYTES, InboundItem, LaneKind, OutboundItem, OversizedItem};
pub use mesh::topology::{SHARDS_MAX, Topology};
pub use session::snapshot::{SessionRecord, SubscriptionRecord};
