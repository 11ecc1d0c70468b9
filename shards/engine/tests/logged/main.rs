//! Every behaviour once more with a log: what is recorded changes nothing that a client sees, and a shard that is recovered from the
//! records goes on as the one that wrote them.

#[path = "../behaviour/ack_gate.rs"]
mod ack_gate;
#[path = "../behaviour/aliases.rs"]
mod aliases;
#[path = "../behaviour/authentication.rs"]
mod authentication;
#[path = "../behaviour/branching.rs"]
mod branching;
#[path = "../behaviour/bridges.rs"]
mod bridges;
#[path = "../behaviour/client.rs"]
mod client;
#[path = "../behaviour/close_reasons.rs"]
mod close_reasons;
#[path = "../behaviour/connect.rs"]
mod connect;
#[path = "../behaviour/expiry.rs"]
mod expiry;
#[path = "../behaviour/features.rs"]
mod features;
#[path = "../behaviour/flow.rs"]
mod flow;
#[path = "../behaviour/garbage.rs"]
mod garbage;
#[path = "../behaviour/host.rs"]
mod host;
#[path = "../behaviour/judging.rs"]
mod judging;
#[path = "../behaviour/listeners.rs"]
mod listeners;
#[path = "../behaviour/log.rs"]
mod log;
#[path = "../behaviour/long_fan_outs.rs"]
mod long_fan_outs;
#[path = "../behaviour/memory.rs"]
mod memory;
#[path = "../behaviour/notices.rs"]
mod notices;
#[path = "../behaviour/operator.rs"]
mod operator;
#[path = "../behaviour/oracle.rs"]
mod oracle;
#[path = "../behaviour/owners.rs"]
mod owners;
#[path = "../behaviour/pauses.rs"]
mod pauses;
#[path = "../behaviour/pressure.rs"]
mod pressure;
#[path = "../behaviour/publish.rs"]
mod publish;
#[path = "../behaviour/queues.rs"]
mod queues;
#[path = "../behaviour/random.rs"]
mod random;
#[path = "../behaviour/records.rs"]
mod records;
#[path = "../behaviour/retained.rs"]
mod retained;
#[path = "../behaviour/rivals.rs"]
mod rivals;
#[path = "../behaviour/rules.rs"]
mod rules;
#[path = "../behaviour/sessions.rs"]
mod sessions;
#[path = "../behaviour/shared.rs"]
mod shared;
#[path = "../behaviour/shedding.rs"]
mod shedding;
#[path = "../behaviour/slices.rs"]
mod slices;
#[path = "../behaviour/subscriptions.rs"]
mod subscriptions;
#[path = "../behaviour/sys.rs"]
mod sys;
#[path = "../behaviour/timeouts.rs"]
mod timeouts;
#[path = "../behaviour/transfers.rs"]
mod transfers;
#[path = "../behaviour/two_shards.rs"]
mod two_shards;
#[path = "../behaviour/unjudged.rs"]
mod unjudged;
#[path = "../behaviour/wills.rs"]
mod wills;

/// Whether every shard writes a log, from which another one is recovered at the end of each test.
const LOGGED: bool = true;
