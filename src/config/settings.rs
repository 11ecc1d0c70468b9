//! Every setting of the broker: its key, type, default, bounds and description.
//! Invariant: each setting is written once. The struct [`Config`], the table that parses files and flags, `--help` and
//! `deploy/broker.conf` are all generated from this list, so they cannot disagree.

use std::path::PathBuf;

use engine::{QueueFull, Redirect, SessionOwner};

use super::address::BindAddress;
use super::admin::{AdminConfig, ProbesConfig};
use super::auth::AuthConfig;
use super::entry::Entry;
use super::limits::{BansConfig, OnRate};
use super::listener::{ListenerConfig, loopback};
use super::rules::RulesConfig;
use super::value::{
    ANY, Anonymous, Bounds, Ceiling, ConnectionLines, Durability, Field, Io, LogFormat, LogLevel, between,
    from,
};

/// The longest packet of MQTT: a fixed header of five bytes and a remaining length of 268,435,455 bytes.
pub(super) const MQTT_PACKET_BYTES_MAX: u64 = 268_435_460;

/// Maximum number of shards.
const SHARDS_MAX: u64 = 64;

const _: () = assert!(engine::SHARDS_MAX == 64);

/// One setting as files, flags and help use it.
pub(crate) type Setting = Entry<Config>;

macro_rules! settings {
    ($( section $section:literal {
        $( $(#[doc = $line:literal])+ $key:ident: $type:ty = $default:expr, $bounds:expr; )+
    } )+) => {
        /// All settings. Names carry their units.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct Config {
            $( $( $(#[doc = $line])+ pub(crate) $key: $type, )+ )+
            /// The listeners; at least one.
            pub(crate) listeners: Vec<ListenerConfig>,
            /// The methods of authentication.
            pub(crate) auth: AuthConfig,
            /// The rules about topics; `None` allows everything.
            pub(crate) rules: Option<RulesConfig>,
            /// The bans; `None` bans nobody.
            pub(crate) bans: Option<BansConfig>,
            /// Operations over HTTP; `None` serves them at the usual place, if it is free.
            pub(crate) admin: Option<AdminConfig>,
            /// Health and metrics alone; `None` serves them nowhere else.
            pub(crate) probes: Option<ProbesConfig>,
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $( $( $key: $default, )+ )+
                    listeners: vec![ListenerConfig::implied(&[], false, 1_883, Anonymous::Auto)],
                    auth: AuthConfig::default(),
                    rules: None,
                    bans: None,
                    admin: None,
                    probes: None,
                }
            }
        }

        /// The settings in the order in which `broker.conf` and `--help` show them.
        pub(crate) const SETTINGS: &[Setting] = &[
            $( $( Entry {
                section: $section,
                key: stringify!($key),
                lines: &[$($line),+],
                value_name: <$type as Field>::VALUE_NAME,
                repeatable: <$type as Field>::REPEATABLE,
                store: |config, given| {
                    const BOUNDS: Bounds = $bounds;
                    <$type as Field>::parse(given, &BOUNDS).map(|value| config.$key = value).is_some()
                },
                render: |config| config.$key.render(),
                allowed: || <$type as Field>::allowed(&$bounds),
                example: "",
            }, )+ )+
        ];
    };
}

settings! {
    section "Listening" {
        /// IP addresses to listen on.
        /// The default is this machine alone. To let other machines connect, name an address, or "0.0.0.0" and "::" for all
        /// addresses, and configure authentication below `[auth]`; without it, the broker starts only if `anonymous = true` says
        /// that everybody may come in. A link-local address has its interface behind it (`"fe80::1%eth0"`).
        bind: Vec<BindAddress> = loopback(), ANY;
        /// TCP port. 0 selects a free port; the log line `listening on ADDRESS:PORT` shows it.
        port: u16 = 1883, ANY;
        /// Whether clients may connect without a name. "auto" lets them in from this machine: where `bind` is loopback. `bind`,
        /// `port` and `anonymous` describe the only listener; leave them out if there are tables `[[listener]]`.
        anonymous: Anonymous = Anonymous::Auto, ANY;
        /// Maximum number of connections. One more is refused with a reason code (`MAX_CONNECTIONS`).
        max_connections: u32 = 10_000, between(1, 10_000_000);
        /// Seconds within which a new connection must send CONNECT; after that it is closed.
        connect_timeout_s: u16 = 10, between(1, 3_600);
    }
    section "Running" {
        /// Directory for state that outlives the process. It is created if missing; only one broker at a time can use it.
        data_dir: PathBuf = PathBuf::from("data"), ANY;
        /// The accident that an acknowledgement survives: "process", the end of the process such as kill -9; "power", the loss of power
        /// as well; "memory", none. With "process" and "power" sessions, subscriptions, waiting, unfinished and retained messages and wills
        /// come back from a log in `data_dir`.
        durability: Durability = Durability::Power, ANY;
        /// Bytes by which the log of a shard grows on the disk before another checkpoint takes the place of what it has, so that it stays
        /// short. A checkpoint has everything that the log is about, and if the last one was longer than this, its length counts instead.
        checkpoint_bytes: u64 = 268_435_456, from(1_048_576);
        /// Whether the system may write core dumps although the broker has loaded private keys or users. Without such secrets
        /// they stay as the system has them.
        core_dumps: bool = false, ANY;
        /// Threads that serve connections, each pinned to a core. 0 starts one for each core that the process may
        /// use, according to CPU affinity and the quota of its control group, or as many as the log in `data_dir` has; with
        /// another number the log is dealt anew. More shards than cores are allowed.
        shards: u32 = 0, between(0, SHARDS_MAX);
        /// System interface for network I/O: "uring" (`io_uring`, Linux 5.13 or later, 5.19 recommended), "epoll" (kqueue on
        /// macOS), "tokio" (every system), "blocking" (every system, a thread for each connection, for comparison), or "auto":
        /// `io_uring` where the system permits it, epoll otherwise, tokio on Windows. One log line states the choice and the reason.
        io: Io = Io::DEFAULT, ANY;
        /// Seconds between two statistics blocks on standard output; 0 disables them (`STATS_INTERVAL`).
        /// SIGUSR1 prints one at any time.
        stats_interval_s: u32 = 30, between(0, 86_400);
        /// Seconds between two updates of the retained messages below `$SYS/broker/`, which publish the broker's statistics.
        /// Only changed values are published. 0 disables them.
        sys_interval_s: u32 = 10, between(0, 86_400);
        /// Whether CONNACK carries the number of the client's shard to MQTT 5.0 clients, in a user property `shard`.
        /// For tests and benchmarks.
        tell_shard: bool = false, ANY;
        /// Whether MQTT 5.0 clients can use the authentication method "test-echo", which sends one challenge and lets in every
        /// client that sends it back. For tests of the exchange only: it proves no identity.
        test_authentication: bool = false, ANY;
    }
    section "Logs" {
        /// Least severe level that is logged: "debug", "info", "warn", "error" (also "err"), or "off".
        log_level: LogLevel = LogLevel::Info, ANY;
        /// Form of a log line: "text", or "json" for one JSON object a line. With "json", the statistics on standard output are
        /// such lines as well.
        log_format: LogFormat = LogFormat::Text, ANY;
        /// Lines about connections, at level "info": "all" (each client that connects or is closed, and each refused connection,
        /// with the reason), "refusals", or "none". Of one reason, each shard logs 200 lines at once and 20 a second after
        /// that; one line tells how many were held back.
        connection_log: ConnectionLines = ConnectionLines::All, ANY;
        /// Directory for log files. A new file is started every day and the last 14 are kept; "" writes no files.
        /// Standard output has the log in either case.
        log_dir: Option<PathBuf> = None, ANY;
    }
    section "Connections" {
        /// Maximum number of bytes that one read takes from a connection (`READ_BUFFER_SIZE`).
        read_buffer_bytes: u32 = 8_192, between(512, 1_048_576);
        /// Connection slots allocated at start (`INITIAL_POOL_SIZE`). Unless it is set, it is at most `max_pool_size`.
        initial_pool_size: u32 = 1_000, between(0, 10_000_000);
        /// Maximum number of connection slots kept for reuse (`MAX_POOL_SIZE`). If it is not set, it follows a greater
        /// `max_connections`.
        max_pool_size: u32 = 50_000, between(1, 10_000_000);
        /// Bytes that may wait for a slow reader. Above that, QoS 0 messages to it are dropped and counted.
        outbox_bytes_max: u32 = 1_048_576, between(4_096, 1_073_741_824);
        /// Kernel send buffer of each connection in bytes (`SO_SNDBUF`), which Linux doubles; 0 leaves the size to the system. A stalled
        /// reader occupies up to that much kernel memory: less than 512 KiB by default, and 4 MiB if the system chooses the size.
        send_buffer_bytes: u32 = 196_608, between(0, 1_073_741_824);
        /// Maximum keep alive in seconds. MQTT 5.0 clients that request a longer one, or none, are assigned
        /// this value; 0 sets no limit.
        keep_alive_s_max: u16 = 0, ANY;
    }
    section "Sessions" {
        /// Seconds that the session of a 3.1.1 client with clean session 0 outlives its connection
        /// (`DEFAULT_SESSION_EXPIRY_SEC`). MQTT 5.0 clients request their own value.
        default_session_expiry_s: u32 = 3_600, ANY;
        /// Maximum session expiry in seconds. MQTT 5.0 clients that request a longer one are assigned this
        /// value. 4294967295 sets no limit: sessions that request it never expire.
        session_expiry_s_max: u32 = u32::MAX, ANY;
        /// Maximum number of unacknowledged QoS 1 and 2 messages from one client (Receive Maximum).
        receive_maximum: u16 = 1_024, between(1, 65_535);
        /// Maximum number of unacknowledged QoS 1 and 2 messages to one client; the client's own Receive Maximum
        /// can lower it further.
        inflight_max: u16 = 1_024, between(1, 65_535);
        /// Maximum number of messages that wait for one session; `queue_full` selects what happens to one more.
        queue_messages_max: u32 = 10_000, between(0, 100_000_000);
        /// Maximum number of bytes of messages that wait for one session; `queue_full` selects what happens to more.
        queue_bytes_max: u64 = 16_777_216, from(0);
        /// Policy for a full session queue: `"drop_newest"` drops the arriving message, `"drop_oldest"` drops the oldest to make
        /// room, `"end_session"` ends the session. Drops are counted and never affect another session.
        queue_full: QueueFull = QueueFull::DropNewest, ANY;
        /// Whether QoS 0 messages are also queued for a session whose client is disconnected.
        queue_qos0_offline: bool = false, ANY;
        /// Owner of a session: `"user"`, so that a client of another user is refused with 0x85, or `"client_id"`, so that any client
        /// with its client identifier may have it. A session without an owner passes to the first user who connects to it.
        session_owner: SessionOwner = SessionOwner::User, ANY;
        /// Maximum number of sessions, connected or not. A CONNECT that would create one more is refused with 0x97.
        sessions_max: u32 = 1_000_000, between(1, 100_000_000);
        /// Maximum number of subscriptions of one session.
        subscriptions_per_session_max: u32 = 10_000, between(1, 100_000_000);
        /// Maximum number of nodes of the topic tree that one publish can visit. A filter with wildcards that would let a publish
        /// visit more is refused with 0x97. Only `+` at many different levels below the same ones adds up: a fleet of any size
        /// with a few patterns visits some ten nodes, and 2,048 take up to half a millisecond.
        match_nodes_max: u32 = 2_048, between(64, 1_000_000);
    }
    section "Limits of a client" {
        /// Messages a second that one client may publish; 0 sets no limit. This and the next hold for each connection. A client
        /// that comes again goes on where its identifier stopped, or else where another one of its user or address did.
        publish_rate: u32 = 0, between(0, 1_000_000_000);
        /// Bytes of PUBLISH packets a second that one client may send; 0 sets no limit.
        publish_bytes_rate: u32 = 0, ANY;
        /// Seconds of these rates that may come at once.
        burst_s: u16 = 2, between(1, 3_600);
        /// The answer to a client that exceeds its rates: "pause" reads on when it may send again, "disconnect" closes it with
        /// 0x96.
        on_rate: OnRate = OnRate::Pause, ANY;
        /// Maximum number of connections from one address (of IPv6, a network of 64 bits); 0 sets no limit.
        connections_per_address_max: u32 = 0, between(0, 10_000_000);
        /// Connections a second from one address; 0 sets no limit. One more is refused with 0x9F.
        connects_per_address_rate: u32 = 0, between(0, 1_000_000);
    }
    section "Limits of a packet" {
        /// Longest packet accepted, in bytes, including its header (Maximum Packet Size). The default fits a
        /// payload of 1 MiB with room to spare. A longer packet is refused as soon as its header is read.
        packet_bytes_max: u32 = 2_097_152, between(1_024, MQTT_PACKET_BYTES_MAX);
        /// Longest packet accepted of a peer that is not connected yet, in bytes: CONNECT, and AUTH during the exchange. A longer
        /// one is refused as soon as its header is read.
        connect_bytes_max: u32 = 100_000, between(1_024, MQTT_PACKET_BYTES_MAX);
        /// Maximum number of bytes of authentication method and data in one packet; more is refused with 0x97.
        authentication_bytes_max: u16 = 4_096, between(64, 65_535);
        /// Longest client identifier accepted, in bytes.
        client_id_bytes_max: u16 = 1_024, between(23, 65_535);
        /// Maximum number of levels of a topic name or filter.
        topic_levels_max: u16 = 128, between(1, 65_535);
        /// Topic aliases that an MQTT 5.0 client can define on its connection; 0 permits none.
        topic_alias_maximum: u16 = 64, ANY;
        /// Topic aliases that the broker defines towards a client that permits them; 0 uses none. They make packets shorter, but
        /// MQTT.js, paho-python and `mosquitto_sub` permit them and lose topics. They are never used for QoS 2.
        topic_alias_outgoing_max: u16 = 0, ANY;
        /// Maximum number of bytes of the topics of one connection's aliases, in each direction. A client that sets more is
        /// disconnected with 0x97; towards it, the broker sets no more.
        alias_bytes_max: u32 = 65_536, between(256, 1_073_741_824);
    }
    section "Features offered to clients" {
        /// Whether subscriptions can contain wildcards. If not, CONNACK informs MQTT 5.0 clients, and one that subscribes with a
        /// wildcard is disconnected with 0xA2; older clients are refused by SUBACK.
        wildcard_subscriptions: bool = true, ANY;
        /// Whether subscriptions can be shared ($share/...). If not, they are refused as wildcards are, with 0x9E.
        shared_subscriptions: bool = true, ANY;
        /// Whether MQTT 5.0 subscriptions can have identifiers. If not, they are refused as wildcards are, with 0xA1.
        subscription_identifiers: bool = true, ANY;
        /// Whether messages can be retained. If not, a client that publishes one is disconnected with 0x9A, and a retained will
        /// is refused.
        retain_available: bool = true, ANY;
        /// Highest QoS that is accepted and granted. A client that publishes with a higher QoS is disconnected with 0x9B, a
        /// will with a higher QoS is refused, and a subscription with a higher QoS is granted this one.
        maximum_qos: u16 = 2, between(0, 2);
        /// Whether the broker assigns an identifier to a client that sends none; otherwise the client is refused with 0x85.
        assigned_client_ids: bool = true, ANY;
        /// Whether payloads whose Payload Format Indicator says UTF-8 are checked. One that is not UTF-8 is refused with 0x99
        /// (with QoS 0 the client is disconnected), and a will is refused together with its CONNECT.
        check_payload_format: bool = false, ANY;
        /// MQTT 5.0 clients that request Response Information receive this prefix, "/" and their client identifier as the
        /// beginning of their response topics; "" sends none. The broker does not check who uses which topic.
        response_topic_prefix: String = String::new(), between(0, 1_024);
        /// Another server, such as "mqtt2.example.com:1883", that MQTT 5.0 clients are referred to: on connect if `redirect` is
        /// set, and when this broker stops, which then sends 0x9C instead of 0x8B. "" refers to no server.
        server_reference: String = String::new(), between(0, 1_024);
        /// Whether new clients are redirected to `server_reference`: `"off"`, `"use_another"` (0x9C, temporarily) or `"moved"`
        /// (0x9D, permanently). Clients before MQTT 5.0 receive "server unavailable".
        redirect: Redirect = Redirect::Off, ANY;
    }
    section "Memory" {
        /// Maximum number of retained messages.
        retained_messages_max: u32 = 1_000_000, ANY;
        /// Maximum number of bytes of retained messages, including their topics.
        retained_bytes_max: u64 = 1_073_741_824, from(0);
        /// Limit in bytes on everything that is held for peers that are not connected yet: unfinished CONNECTs and exchanges of
        /// authentication. Above it, the peer that holds most is closed, of equals the oldest.
        unjudged_bytes_max: u64 = 67_108_864, from(65_536);
        /// Limit in bytes on everything that the broker holds, by the real sizes of its structures. Clients, subscriptions,
        /// retained messages and messages on their way each have a reserve that the others cannot take. Above 80 %, reserves
        /// included, slow readers get less and the largest outboxes lose QoS 0; above 95 %, a kind that is beyond its reserve may
        /// not grow: 0x97, and a publish of MQTT 3.1.1 waits, for five seconds at most. The shards share it. "auto" is 60 % of the limit
        /// of the control group, or of the machine's memory if that is less; 0 sets no limit.
        memory_bytes_max: Ceiling = Ceiling::Auto, from(0);
    }
}
