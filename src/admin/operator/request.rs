//! The requests of an operator: one enum for the socket and for whatever else speaks to shards on an operator's behalf.
//! Invariant: a request that lists something names a shard and the place there where its part begins, so no shard does more for it in a
//! turn than a part takes.

use serde::{Deserialize, Serialize};

use crate::drain::DrainTerms;
use crate::net::bans::{Ban, Lift};
use crate::observe::packet_trace::TraceTarget;

/// Bytes of a payload that an operator publishes or reads, at most.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1_048_576;

/// The longest client identifier and user name of MQTT with each byte escaped by JSON (`\u0000`) and a payload in base64, plus the JSON
/// around them.
pub(super) const REQUEST_BYTES_MAX: usize =
    2 * 6 * u16::MAX as usize + PAYLOAD_BYTES_MAX.div_ceil(3) * 4 + 256;

/// A request of an operator. Shards execute it, unless [`Receivers`] says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Say whether every shard answers.
    Health {},
    /// Close the connection of this client.
    Disconnect {
        /// Its identifier.
        client_id: String,
    },
    /// End the session of this client.
    EndSession {
        /// Its identifier.
        client_id: String,
    },
    /// Give the session of this client to another user.
    GiveSession {
        /// Its identifier.
        client_id: String,
        /// The name of the user.
        user: String,
    },
    /// Show the session of this client.
    Session {
        /// Its identifier.
        client_id: String,
    },
    /// Show sessions of a shard.
    Sessions {
        /// The number of the shard.
        shard: u16,
        /// The slot of the first one.
        from: u32,
    },
    /// Show clients of a shard that are connected.
    Clients {
        /// The number of the shard.
        shard: u16,
        /// The slot of the first one.
        from: u32,
        /// Those that are meant.
        only: ClientFilter,
    },
    /// Show everything about the session of this client, and its last end.
    Client {
        /// Its identifier.
        client_id: String,
    },
    /// Show subscriptions of a shard.
    Subscriptions {
        /// The number of the shard.
        shard: u16,
        /// The slot of the first one.
        from: u32,
    },
    /// Show subscriptions of this client.
    SubscriptionsOf {
        /// Its identifier.
        client_id: String,
        /// The place where the list goes on; `None`: the beginning.
        from: Option<u32>,
    },
    /// Show sessions of a shard that are offered the messages of a topic.
    Receivers {
        /// The number of the shard.
        shard: u16,
        /// The topic.
        topic: String,
        /// The filter, the list of it and the position there where the list goes on.
        from: (u32, u32, u32),
    },
    /// Show retained messages of a shard.
    Retained {
        /// The number of the shard.
        shard: u16,
        /// Topics that are meant.
        filter: String,
        /// The topic behind which the list goes on; `None`: the beginning.
        after: Option<String>,
    },
    /// Show the retained message of a topic, with its payload.
    RetainedMessage {
        /// The topic.
        topic: String,
    },
    /// Remove the retained message of a topic.
    ClearRetained {
        /// The topic.
        topic: String,
    },
    /// Publish a message.
    Publish {
        /// Its topic.
        topic: String,
        /// Its payload, in base64.
        payload: String,
        /// Its quality of service.
        qos: u8,
        /// Whether it is retained.
        retain: bool,
    },
    /// Show the last refusals.
    Refusals {},
    /// Show the last ends of connections on a shard, from the newest back.
    Closed {
        /// The number of the shard.
        shard: u16,
        /// Those before this one; `None`: the newest.
        before: Option<u64>,
        /// Only those of the client with this identifier.
        client_id: Option<String>,
    },
    /// Show the counters. The main thread answers.
    Statistics {},
    /// Show what each shard holds, and the times of its stages. The main thread answers.
    Shards {},
    /// Show the keys of the configuration in force. The main thread answers.
    Configuration {
        /// The key behind which the list goes on; `None`: the beginning.
        after: Option<String>,
    },
    /// Show the certificates of listeners and of `[admin]`. The main thread answers.
    Certificates {},
    /// Show the last lines of the log. The main thread answers.
    LastLines {
        /// The number of the first one.
        from: u64,
    },
    /// Change the least severe level that is logged. The main thread answers.
    LogLevel {
        /// `debug`, `info`, `warn`, `error` or `off`.
        level: String,
    },
    /// Read the configuration and its files again. The main thread answers.
    Reload {
        /// Only tell what would change.
        is_dry: bool,
    },
    /// Drain the broker. The main thread answers.
    Drain(DrainTerms),
    /// Show the drain. The main thread answers.
    DrainState {},
    /// End the drain. The main thread answers.
    CancelDrain {},
    /// Go back to the configuration before. The main thread answers.
    RollBack {},
    /// Show bans. No shard is asked.
    Bans {
        /// The number of those before the first one.
        from: usize,
    },
    /// Ban a subject. No shard is asked.
    Ban(Ban),
    /// Lift bans. No shard is asked.
    LiftBans(Lift),
    /// Show packets of a client, or of a topic on a shard, from the first one that was not shown.
    Trace {
        /// The number of the shard; that of a client is its home.
        shard: u16,
        /// The client or the topic.
        target: TraceTarget,
        /// Bytes of each payload to be shown, at most.
        payload_bytes_max: usize,
        /// The place where the list goes on; `None`: with the next packet.
        from: Option<u64>,
    },
    /// Look at the logs of all shards, or do something about them.
    Log(LogAction),
}

/// An action on the logs of all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogAction {
    /// Nothing but the answer.
    Look,
    /// Write a checkpoint as soon as can be.
    Checkpoint,
    /// Delete no file for a time, so that they can be copied; to be repeated while that lasts.
    Freeze,
    /// Delete files again.
    Thaw,
}

/// The clients that are meant: those to which everything applies that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientFilter {
    /// Their address, or a network such as `10.1.2.0/24`.
    pub(crate) address: Option<String>,
    /// Their user.
    pub(crate) user: Option<String>,
    /// The name of their listener.
    pub(crate) listener: Option<String>,
    /// The beginning of their identifiers.
    pub(crate) prefix: Option<String>,
    /// Whether something waits for them to read it.
    #[serde(default)]
    pub(crate) is_waited_for: bool,
}

/// The receivers of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receivers<'a> {
    /// Every shard.
    All,
    /// The shard where the session of this client lives.
    HomeOf(&'a str),
    /// The shard that keeps the retained message of this topic.
    HomeOfTopic(&'a str),
    /// The shard of this number.
    Shard(u16),
    /// The main thread.
    Main,
    /// No shard.
    None,
}

impl Request {
    /// The shards that execute it.
    pub(crate) fn receivers(&self) -> Receivers<'_> {
        match self {
            Self::Health {} | Self::Refusals {} | Self::Log(_) => Receivers::All,
            Self::Disconnect { client_id }
            | Self::EndSession { client_id }
            | Self::GiveSession { client_id, .. }
            | Self::Session { client_id }
            | Self::Client { client_id }
            | Self::Trace { target: TraceTarget::Client(client_id), .. }
            | Self::SubscriptionsOf { client_id, .. } => Receivers::HomeOf(client_id),
            Self::RetainedMessage { topic } | Self::ClearRetained { topic } | Self::Publish { topic, .. } => {
                Receivers::HomeOfTopic(topic)
            }
            Self::Sessions { shard, .. }
            | Self::Clients { shard, .. }
            | Self::Subscriptions { shard, .. }
            | Self::Receivers { shard, .. }
            | Self::Retained { shard, .. }
            | Self::Trace { shard, .. }
            | Self::Closed { shard, .. } => Receivers::Shard(*shard),
            Self::Statistics {}
            | Self::Shards {}
            | Self::Configuration { .. }
            | Self::Certificates {}
            | Self::LastLines { .. }
            | Self::LogLevel { .. }
            | Self::Reload { .. }
            | Self::RollBack {}
            | Self::Drain(_)
            | Self::DrainState {}
            | Self::CancelDrain {} => Receivers::Main,
            Self::Bans { .. } | Self::Ban(_) | Self::LiftBans(_) => Receivers::None,
        }
    }
}
