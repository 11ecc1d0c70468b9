//! Every bound of the engine, and what happens past it. The edge fills them from its configuration.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use wire::QoS;

/// [`Limits::step_work_max`] of the product: twice as much, which a fan-out may take, is below 1 ms where memory is cold.
const STEP_WORK_MAX: u32 = 500;

/// The policy of a full session queue for the next message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QueueFull {
    /// The arriving message is dropped for this session.
    #[default]
    DropNewest,
    /// The oldest queued message is dropped and the arriving one queued.
    DropOldest,
    /// The session ends; its connection, if any, is closed with 0x97.
    EndSession,
}

/// Whether new clients are sent to another server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Redirect {
    /// No.
    #[default]
    Off,
    /// Temporarily: 0x9C.
    UseAnother,
    /// Permanently: 0x9D.
    Moved,
}

/// The clients that may resume, take over or clean a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionOwner {
    /// The user that it belongs to. One that belongs to no user with a name passes to the first that has one.
    #[default]
    User,
    /// Any client that has its client identifier, which is MQTT's own rule.
    ClientId,
}

/// The answer to a client that publishes faster than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnRate {
    /// Its connection is not read until it may publish again.
    #[default]
    Pause,
    /// It is closed with 0x96.
    Disconnect,
}

/// The rates at which one client may publish. A packet that is longer than a burst may come, and is paid afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// PUBLISH packets a second; 0: no limit.
    pub messages: u32,
    /// Bytes of PUBLISH packets a second; 0: no limit.
    pub bytes: u32,
    /// Seconds of these that may come at once.
    pub burst_s: u16,
    /// The answer to more.
    pub on_rate: OnRate,
}

/// The origin of the client identifiers of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientIdSource {
    /// CONNECT.
    #[default]
    Connect,
    /// The name that [`crate::Engine::identify`] was told, and else the user name of CONNECT.
    UserName,
    /// The name that [`crate::Engine::identify`] was told.
    Identity,
}

/// The part of the bounds that belongs to one listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListenerLimits {
    /// Whether the host judges the CONNECT of each client that names no method of authentication.
    pub judged: bool,
    /// The rates at which each of its clients may publish; `None`: as fast as it can.
    pub rates: Option<Rates>,
    /// Longest packet accepted here, in bytes, if that is less than [`Limits::packet_bytes_max`].
    pub packet_bytes_max: Option<u32>,
    /// Highest QoS accepted and granted here, if that is less than [`Limits::maximum_qos`].
    pub maximum_qos: Option<QoS>,
    /// The origin of the client identifiers.
    pub client_id_source: ClientIdSource,
    /// Whether the identifier from another origin replaces the one that the client has; otherwise that client is refused with
    /// 0x85. An empty one is replaced in any case, and the client is told so.
    pub replaces_client_id: bool,
    /// [`Limits::acknowledge_written`] for its clients, if that differs.
    pub acknowledge_written: Option<bool>,
}

/// The engine's bounds. [`Limits::default`] is what the product ships with.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent settings, not one state")]
pub struct Limits {
    /// Longest packet accepted, in bytes with its fixed header; a longer one closes with 0x95.
    pub packet_bytes_max: u32,
    /// Longest packet accepted of a peer that is not known yet, CONNECT and AUTH, in bytes with its fixed header; a longer one
    /// closes, of a 5.0 client with 0x95.
    pub connect_bytes_max: u32,
    /// Bytes that this shard may hold for all such peers together: unfinished CONNECTs and exchanges of authentication. Past it
    /// the peer that holds most is closed, of equals the oldest.
    pub unjudged_bytes_max: u64,
    /// QoS 1 and 2 messages one client may have unacknowledged towards us; past it 0x93 (5.0).
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages in flight to one session; further ones queue.
    pub inflight_max: u16,
    /// Messages one session may have queued; past it `queue_full` decides.
    pub queue_messages_max: u32,
    /// Bytes of messages one session may have queued; past it `queue_full` decides.
    pub queue_bytes_max: u64,
    /// The policy of a full session queue.
    pub queue_full: QueueFull,
    /// Whether QoS 0 messages are queued for a session without a connection; otherwise dropped, counted.
    pub queue_qos0_offline: bool,
    /// Bytes a slow reader may fall behind; past it QoS 0 is dropped, QoS 1 and 2 queue, and a peer
    /// that lets acknowledgements pile up 64 KiB past it is closed.
    pub outbox_bytes_max: u32,
    /// Topic aliases a 5.0 client may use towards us; a higher one closes with 0x94.
    pub topic_alias_maximum: u16,
    /// Topic aliases we use towards a 5.0 client, if it allows as many; never on QoS 2.
    pub topic_alias_outgoing_max: u16,
    /// Bytes of the topics of one connection's aliases, in each direction. A client that sets more is closed with 0x97; towards it
    /// the topic goes out without an alias.
    pub alias_bytes_max: u32,
    /// Longest keep alive, in seconds; a 5.0 client that requests more or none is sent this one. 0: no limit.
    pub keep_alive_s_max: u16,
    /// How long a connection may take to send its CONNECT, in milliseconds.
    pub connect_timeout_ms: u32,
    /// How long a closing connection may take to accept its last bytes, in milliseconds.
    pub close_timeout_ms: u32,
    /// How long a 3.1.1 session with clean session 0 outlives its connection, in seconds.
    pub default_session_expiry_s: u32,
    /// Longest session expiry interval granted, in seconds; `u32::MAX` never expires.
    pub session_expiry_s_max: u32,
    /// Sessions of this shard; a CONNECT that needs a further one is refused with 0x97.
    pub sessions_max: u32,
    /// Subscriptions one session may hold; a further one is refused with 0x97.
    pub subscriptions_per_session_max: u32,
    /// Nodes of the topic tree that any publish may visit; a filter with wildcards that would let one visit more is refused with 0x97.
    pub match_nodes_max: u32,
    /// Levels of a topic name or filter; a deeper one is refused with 0x90 or 0x8F.
    pub topic_levels_max: u16,
    /// Longest client identifier, in bytes; a longer one is refused with 0x85.
    pub client_id_bytes_max: u16,
    /// Retained messages of this shard; a further one is refused with 0x97.
    pub retained_messages_max: u32,
    /// Bytes of this shard's retained messages; past it a further one is refused with 0x97.
    pub retained_bytes_max: u64,
    /// Topics of live messages that the replays of one session remember; past it the page that is under way
    /// is discarded and requested again.
    pub replay_topics_max: u32,
    /// Bytes of all kinds that the process may hold, of which [`crate::MemoryUse`] are this shard's and [`crate::Elsewhere`] the
    /// others'. [`crate::Budget`] says what may grow. 0: no ceiling.
    pub memory_bytes_max: u64,
    /// Whether filters may have wildcards; otherwise 0xA2 (5.0), or a refused SUBACK.
    pub wildcard_subscriptions: bool,
    /// Whether subscriptions may be shared; otherwise 0x9E (5.0), or a refused SUBACK.
    pub shared_subscriptions: bool,
    /// Whether subscriptions may have identifiers; otherwise 0xA1.
    pub subscription_identifiers: bool,
    /// Whether messages can be retained; otherwise 0x9A.
    pub retain_available: bool,
    /// The highest QoS taken from clients and granted to them; a higher PUBLISH or will is refused with 0x9B.
    pub maximum_qos: QoS,
    /// Whether an empty client identifier is replaced by an assigned one; otherwise 0x85.
    pub assigned_client_ids: bool,
    /// Whether a payload is checked whose format indicator says UTF-8; one that is not UTF-8 is refused with 0x99.
    pub check_payload_format: bool,
    /// Whether a client that publishes what the rules forbid is closed; otherwise the message is refused with 0x87, and before 5.0
    /// acknowledged and forgotten.
    pub denied_publish_closes: bool,
    /// Whether a subscription is accepted of which the rules forbid everything; otherwise 0x87 (5.0), or a refused SUBACK.
    pub denied_subscribe_accepted: bool,
    /// The text before the client identifier in the Response Information of a client that requests one; "": none is sent.
    pub response_topic_prefix: Box<str>,
    /// The server that clients are referred to; "": none.
    pub server_reference: Box<str>,
    /// Whether new clients are sent to that server.
    pub redirect: Redirect,
    /// The limits of each listener, by the number that [`crate::Engine::accept`] is told. A listener that is not in the
    /// list has nothing of its own.
    pub listeners: Vec<ListenerLimits>,
    /// The clients that may resume, take over or clean a session; another one is refused with 0x85.
    pub session_owner: SessionOwner,
    /// Methods of enhanced authentication that the host knows; any other is refused with 0x8C.
    pub authentication_methods: Vec<Box<str>>,
    /// Bytes of a method's name and data in one packet of a client; more is refused with 0x97.
    pub authentication_bytes_max: u16,
    /// Whether CONNACK names the shard to a 5.0 client, in a user property `shard`: for tests and benches.
    pub tell_shard: bool,
    /// Whether [`crate::Actions`] carries a [`crate::Notice`] of each client that comes and goes.
    pub connection_notices: bool,
    /// The number of this start of the process, greater than those of all starts before, if there is a log: then the engine writes
    /// records for it, see [`crate::Engine::records`]. `None`: nothing is recorded, and nothing waits for a disk.
    pub journal_start: Option<NonZeroU32>,
    /// Whether acknowledgements leave once their records are written, though they are not synced: they survive the end of the
    /// process, and not that of the machine. It changes nothing about what is recorded.
    pub acknowledge_written: bool,
    /// Units of work after which a step ends between two pieces of work and the next one goes on: a unit is a delivery, or
    /// as much as that takes. A simulator sets few, so that everything is cut. At least 1.
    pub step_work_max: u32,
    /// Bits of the generations in identities that leave the engine: 32. A simulator sets 2, so that generations wrap.
    pub generation_bits: u32,
}

impl Limits {
    /// The limits of a listener.
    pub(crate) fn of_listener(&self, listener: u16) -> ListenerLimits {
        self.listeners.get(usize::from(listener)).copied().unwrap_or_default()
    }

    /// Whether acknowledgements to the clients of a listener leave once their records are written.
    pub(crate) fn acknowledges_written(&self, listener: u16) -> bool {
        let own = self.listeners.get(usize::from(listener)).and_then(|own| own.acknowledge_written);
        own.unwrap_or(self.acknowledge_written)
    }

    /// The name of the accident that acknowledgements to the clients of a listener survive.
    pub(crate) fn durability_of(&self, listener: u16) -> &'static str {
        match self.journal_start {
            None => "memory",
            Some(_) if self.acknowledges_written(listener) => "process",
            Some(_) => "power",
        }
    }

    /// The longest packet that a listener accepts, in bytes.
    pub(crate) fn packet_bytes_max_of(&self, listener: u16) -> u32 {
        self.of_listener(listener).packet_bytes_max.unwrap_or(u32::MAX).min(self.packet_bytes_max)
    }

    /// The highest QoS that a listener accepts and grants.
    pub(crate) fn maximum_qos_of(&self, listener: u16) -> QoS {
        self.of_listener(listener).maximum_qos.unwrap_or(QoS::ExactlyOnce).min(self.maximum_qos)
    }
}

impl Limits {
    /// The rates of the clients of a listener, if they are limited.
    pub(crate) fn rates(&self, listener: u16) -> Option<&Rates> {
        self.listeners.get(usize::from(listener))?.rates.as_ref()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 2 * 1024 * 1024,
            connect_bytes_max: 100_000,
            unjudged_bytes_max: 64 * 1024 * 1024,
            receive_maximum: 1024,
            inflight_max: 1024,
            queue_messages_max: 10_000,
            queue_bytes_max: 16 * 1024 * 1024,
            queue_full: QueueFull::DropNewest,
            queue_qos0_offline: false,
            outbox_bytes_max: 1024 * 1024,
            topic_alias_maximum: 64,
            topic_alias_outgoing_max: 0,
            alias_bytes_max: 64 * 1024,
            keep_alive_s_max: 0,
            connect_timeout_ms: 10_000,
            close_timeout_ms: 5_000,
            default_session_expiry_s: 3_600,
            session_expiry_s_max: u32::MAX,
            sessions_max: 1_000_000,
            subscriptions_per_session_max: 10_000,
            match_nodes_max: 2_048,
            topic_levels_max: 128,
            client_id_bytes_max: 1_024,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            replay_topics_max: 4_096,
            memory_bytes_max: 0,
            wildcard_subscriptions: true,
            shared_subscriptions: true,
            subscription_identifiers: true,
            retain_available: true,
            maximum_qos: QoS::ExactlyOnce,
            assigned_client_ids: true,
            check_payload_format: false,
            denied_publish_closes: false,
            denied_subscribe_accepted: false,
            response_topic_prefix: Box::default(),
            server_reference: Box::default(),
            redirect: Redirect::Off,
            listeners: Vec::new(),
            session_owner: SessionOwner::User,
            authentication_methods: Vec::new(),
            authentication_bytes_max: 4_096,
            tell_shard: false,
            connection_notices: false,
            journal_start: None,
            acknowledge_written: false,
            step_work_max: STEP_WORK_MAX,
            generation_bits: 32,
        }
    }
}
