//! The state machine of one shard: connections, sessions, subscriptions, retained messages.
//!
//! Invariant: the engine is pure, so a run with the same inputs is the same run. The crate is `no_std`, so a clock, a socket, a thread
//! or a randomly seeded map does not exist here; time and entropy are arguments.
//!
//! A host passes every event to [`Engine::step`], carries out the [`Action`]s that come out and sends the bytes of the outboxes.
//! [`Engine`] documents the order of calls.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod action;
mod base;
mod cause;
mod connection;
mod counters;
mod drop_watch;
mod engine;
mod event;
mod limits;
mod log_room;
mod memory;
mod mesh;
mod message;
mod notice;
mod publish;
mod record;
mod retained;
mod rules_in_force;
mod session;
mod shared;
mod timer;
mod topic;
mod turn;

pub use action::{Action, Actions, Batch};
pub use base::hash::Entropy;
pub use base::ids::ConnectionId;
pub use base::time::Instant;
pub use cause::{Cause, CauseGroup, Party};
pub use connection::arrival::Arrival;
pub use connection::authenticate::{AuthenticationStep, Verdict};
pub use connection::disconnect::CLOSE_REASONS;
pub use connection::outbox::{Chunk, Lend};
pub use connection::{Admission, Refused};
pub use counters::{Counters, DropReason};
pub use drop_watch::WorstClient;
pub use engine::Dealing;
pub use engine::{
    Audit, CheckpointCursor, ClientSummary, Engine, Portable, PortableMessage, RecoverFault, SessionAudit,
    SessionSummary, StreamPosition,
};
pub use engine::{ReceiverCursor, ReceiverSummary, RetainedSummary, SubscriptionSummary, SurveyChanged};
pub use event::{ClosedBy, Consumed, Event};
pub use limits::{
    ClientIdSource, Limits, ListenerLimits, LiveLimits, OnRate, QueueFull, Rates, Redirect, SessionOwner,
};
pub use log_room::LogRoom;
pub use memory::{Budget, Elsewhere, HostMemory, MemoryKind, MemoryLevel, MemoryReport, MemoryUse};
pub use mesh::outbound::{BLOCK_BYTES, InboundItem, LaneKind, OutboundItem, OversizedItem};
pub use mesh::topology::{SHARDS_MAX, Topology};
pub use notice::{LongMatch, NOTICE_TEXT_BYTES_MAX, Notice};
pub use record::Records;
pub use rules_in_force::SharedRules;
pub use session::snapshot::{SessionExpiry, SessionRecord, SubscriptionRecord};
pub use session::user::UserGrant;
