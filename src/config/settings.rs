//! Every setting of the broker, once: its key, type, default, bounds and meaning. The struct, the table that
//! reads files and flags, `--help` and `deploy/broker.conf` all come from here.
//! Knows no file, no flag and nothing of what a setting does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use engine::{QueueFull, Redirect};

use super::value::{ANY, Bounds, Field, Given, Io, LogLevel, between, from};

/// The longest packet MQTT can express: a five-byte fixed header and 268,435,455 bytes behind it.
const MQTT_PACKET_BYTES_MAX: u64 = 268_435_460;

/// Most shards.
const SHARDS_MAX: u64 = 64;

const _: () = assert!(engine::SHARDS_MAX == 64);

/// One setting as files, flags and help see it.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The heading it stands under in `broker.conf` and `--help`.
    pub(crate) section: &'static str,
    /// Its name in the file: snake case, unit included.
    pub(crate) key: &'static str,
    /// The lines of its documentation in [`Config`].
    lines: &'static [&'static str],
    /// What stands for its value in `--help`.
    pub(crate) value_name: &'static str,
    /// Whether the flag may be given more than once.
    pub(crate) repeatable: bool,
    /// Stores a value that is allowed; says `false` and stores nothing otherwise.
    pub(crate) store: fn(&mut Config, &Given<'_>) -> bool,
    /// The value as it would be written in the file.
    pub(crate) render: fn(&Config) -> String,
    /// What may be given, for a person.
    pub(crate) allowed: fn() -> String,
}

impl Setting {
    /// Its meaning, line by line, for a reader who sees no markup.
    pub(crate) fn meaning(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|line| line.trim().replace('`', ""))
    }

    /// The flag that sets it, without the two dashes.
    pub(crate) fn flag(&self) -> String {
        match self.key {
            "stats_interval_s" => "stats-interval".to_owned(),
            key => key.replace('_', "-"),
        }
    }
}

macro_rules! settings {
    ($( section $section:literal {
        $( $(#[doc = $line:literal])+ $key:ident: $type:ty = $default:expr, $bounds:expr; )+
    } )+) => {
        /// Everything an operator can set, with its units in its names.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct Config {
            $( $( $(#[doc = $line])+ pub(crate) $key: $type, )+ )+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $( $( $key: $default, )+ )+ }
            }
        }

        /// The settings in the order in which `broker.conf` and `--help` show them.
        pub(crate) const SETTINGS: &[Setting] = &[
            $( $( Setting {
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
            }, )+ )+
        ];
    };
}

settings! {
    section "Listening" {
        /// IP addresses to listen on.
        /// The default is this machine alone, because this version authenticates nobody: name an address (or
        /// "0.0.0.0" and "::" for all of them) to let others in, and let a firewall say whom.
        bind: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)], ANY;
        /// TCP port. 0 takes a free one; the log line `listening on ADDRESS:PORT` tells which.
        port: u16 = 1883, ANY;
        /// Most connections at once; one more is refused with a reason (`MAX_CONNECTIONS`).
        max_connections: u32 = 10_000, between(1, 10_000_000);
        /// Seconds a new connection has to send its CONNECT packet before it is closed.
        connect_timeout_s: u16 = 10, between(1, 3_600);
    }
    section "Running" {
        /// Directory of what outlives the process. Made when missing; one broker at a time may use it.
        data_dir: PathBuf = PathBuf::from("data"), ANY;
        /// Threads that serve connections, each pinned to a core. 0 starts one for each core that the process may
        /// use, as CPU affinity and the quota of its control group say; more than there are cores is allowed.
        shards: u32 = 0, between(0, SHARDS_MAX);
        /// How bytes move: "uring" (`io_uring`, Linux 5.1 or later, 5.10 recommended), "epoll" (kqueue on macOS), "tokio" (on
        /// every system), "blocking" (on every system, a thread for each connection, for comparison), or "auto": `io_uring`
        /// where the system has and permits it, epoll otherwise, tokio on Windows, and one log line that says why.
        io: Io = Io::DEFAULT, ANY;
        /// Seconds between two statistics blocks on standard output; 0 prints none (`STATS_INTERVAL`).
        /// SIGUSR1 prints one at any time.
        stats_interval_s: u32 = 30, between(0, 86_400);
        /// Seconds between two updates of the retained messages below `$SYS/broker/`, in which the broker tells clients
        /// about itself; only those that changed are published. 0 publishes none.
        sys_interval_s: u32 = 10, between(0, 86_400);
        /// Whether CONNACK tells clients of MQTT 5.0 the number of their shard, in a user property `shard`.
        /// For tests and benches.
        tell_shard: bool = false, ANY;
        /// Whether clients of MQTT 5.0 may use the authentication method "test-echo", which challenges once and lets in
        /// whoever sends the challenge back. For tests of the exchange: it proves nobody's identity.
        test_authentication: bool = false, ANY;
    }
    section "Logs" {
        /// Least severe level that is logged: "debug", "info", "warn", "error" (also "err"), or "off".
        log_level: LogLevel = LogLevel::Info, ANY;
        /// Directory for log files, a new one every day, the last 14 kept; "" writes none.
        /// Standard output has the log either way.
        log_dir: Option<PathBuf> = None, ANY;
    }
    section "Connections" {
        /// Bytes read at once from one connection (`READ_BUFFER_SIZE`).
        read_buffer_bytes: u32 = 8_192, between(512, 1_048_576);
        /// Connection slots made ready at start (`INITIAL_POOL_SIZE`).
        initial_pool_size: u32 = 1_000, between(0, 10_000_000);
        /// Most connection slots ever kept for reuse (`MAX_POOL_SIZE`).
        max_pool_size: u32 = 50_000, between(1, 10_000_000);
        /// Bytes a slow reader may fall behind. Past it, QoS 0 messages to it are dropped and counted.
        outbox_bytes_max: u32 = 1_048_576, between(4_096, 1_073_741_824);
        /// Kernel send buffer of each connection in bytes (`SO_SNDBUF`); 0 leaves it to the system.
        /// A reader that stalls pins up to that much kernel memory, and several MiB if left to the system.
        send_buffer_bytes: u32 = 0, between(0, 1_073_741_824);
        /// Longest keep alive in seconds that is granted. Clients of MQTT 5.0 that ask for more, or for none,
        /// are told this one; 0 sets no limit.
        keep_alive_s_max: u16 = 0, ANY;
    }
    section "Sessions" {
        /// Seconds that a 3.1.1 session with clean session 0 outlives its connection
        /// (`DEFAULT_SESSION_EXPIRY_SEC`). Clients of MQTT 5.0 say it themselves.
        default_session_expiry_s: u32 = 3_600, ANY;
        /// Longest session expiry in seconds that is granted; clients of MQTT 5.0 that ask for more are told
        /// this one. 4294967295 sets no limit: sessions that ask for it never expire.
        session_expiry_s_max: u32 = u32::MAX, ANY;
        /// Messages of QoS 1 and 2 that a client may send before the first is acknowledged (Receive Maximum).
        receive_maximum: u16 = 1_024, between(1, 65_535);
        /// Messages of QoS 1 and 2 on their way to one client at once; the client's own Receive Maximum
        /// lowers it further.
        inflight_max: u16 = 1_024, between(1, 65_535);
        /// Most messages that wait for one session; `queue_full` says what becomes of one more.
        queue_messages_max: u32 = 10_000, between(0, 100_000_000);
        /// Most bytes of messages that wait for one session; `queue_full` says what becomes of one more.
        queue_bytes_max: u64 = 16_777_216, from(0);
        /// When a session's queue is full: `"drop_newest"` drops what arrives, `"drop_oldest"` makes room for
        /// it, `"end_session"` ends the session. Drops are counted, and never touch another session.
        queue_full: QueueFull = QueueFull::DropNewest, ANY;
        /// Whether QoS 0 messages, too, wait for a session whose client is away.
        queue_qos0_offline: bool = false, ANY;
        /// Most sessions, connected or not. A CONNECT that needs one more is refused with 0x97.
        sessions_max: u32 = 1_000_000, between(1, 100_000_000);
        /// Most subscriptions of one session.
        subscriptions_per_session_max: u32 = 10_000, between(1, 100_000_000);
    }
    section "Limits of a packet" {
        /// Longest packet accepted, in bytes, header included (Maximum Packet Size). The default holds a
        /// payload of 1 MiB with room to spare. Longer ones are refused from their header alone.
        packet_bytes_max: u32 = 2_097_152, between(1_024, MQTT_PACKET_BYTES_MAX);
        /// Most bytes of the name of an authentication method and its data in one packet; more is refused with 0x97.
        authentication_bytes_max: u16 = 4_096, between(64, 65_535);
        /// Longest client identifier accepted, in bytes.
        client_id_bytes_max: u16 = 1_024, between(23, 65_535);
        /// Most levels of a topic name or filter, counted by its slashes.
        topic_levels_max: u16 = 128, between(1, 65_535);
        /// Topic aliases a client of MQTT 5.0 may define on its connection; 0 permits none.
        topic_alias_maximum: u16 = 64, ANY;
        /// Topic aliases the broker defines towards a client that permits them; 0 uses none.
        topic_alias_outgoing_max: u16 = 16, ANY;
    }
    section "What is offered" {
        /// Whether subscriptions may have wildcards. Clients of MQTT 5.0 are told by CONNACK and closed with 0xA2 if they
        /// try; older ones are refused by SUBACK.
        wildcard_subscriptions: bool = true, ANY;
        /// Whether subscriptions may be shared ($share/...). As above, with 0x9E.
        shared_subscriptions: bool = true, ANY;
        /// Whether subscriptions of MQTT 5.0 may have identifiers. As above, with 0xA1.
        subscription_identifiers: bool = true, ANY;
        /// Whether messages can be retained. If not, whoever tries is closed (0x9A), and a retained will is refused.
        retain_available: bool = true, ANY;
        /// Highest QoS that is taken and granted. Whoever publishes with a higher one is closed (0x9B), a will with a
        /// higher one is refused, and a subscription is granted this one.
        maximum_qos: u16 = 2, between(0, 2);
        /// Whether a client may leave its client identifier to the broker; otherwise it is refused (0x85).
        assigned_client_ids: bool = true, ANY;
        /// Whether the payload of a message whose Payload Format Indicator says UTF-8 is checked: if it is not, it is
        /// refused with 0x99 (QoS 0: the connection is closed with it), a will with its CONNECT.
        check_payload_format: bool = false, ANY;
        /// Clients of MQTT 5.0 that ask for Response Information are told this, "/" and their client identifier as the
        /// beginning of their response topics; "" tells none. Who may use which topic is not checked.
        response_topic_prefix: String = String::new(), between(0, 1_024);
        /// Another server, such as "mqtt2.example.com:1883", that clients of MQTT 5.0 are referred to: by redirect, and
        /// when this one stops, which then says 0x9C instead of 0x8B; "" refers to none.
        server_reference: String = String::new(), between(0, 1_024);
        /// Whether new clients are sent to `server_reference`: `"off"`, `"use_another"` (0x9C, for now) or `"moved"` (0x9D, for
        /// good). Clients before MQTT 5.0 are told that the server is unavailable.
        redirect: Redirect = Redirect::Off, ANY;
    }
    section "Memory" {
        /// Most retained messages.
        retained_messages_max: u32 = 1_000_000, ANY;
        /// Most bytes of retained messages, topics included.
        retained_bytes_max: u64 = 1_073_741_824, from(0);
        /// Ceiling on the memory the broker accounts for, in bytes: messages, what waits to be sent, wills, topic filters,
        /// and packets of which a part has come. Past it new work is refused with a reason (0x97), and a long packet that
        /// is not whole yet ends its connection; 16 KiB of one are held for each connection all the same. 0 sets none.
        memory_bytes_max: u64 = 0, from(0);
    }
}
