//! The groups of causes: the names under which ends of connections are counted, and the party that ended them.

/// Declares the groups with their names.
macro_rules! groups {
    ($($(#[$meta:meta])* $name:ident => $text:literal, $party:ident;)*) => {
        /// The group of a cause: the name it is counted under, and the unit of the bound on lines in a log.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum CauseGroup {
            $($(#[$meta])* $name,)*
        }

        impl CauseGroup {
            /// Every group, in the order of [`CauseGroup::index`].
            pub const ALL: &[Self] = &[$(Self::$name),*];
            /// Number of groups.
            pub const COUNT: usize = Self::ALL.len();

            /// The name under which it is shown.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The party that ended the connection.
            #[must_use]
            pub const fn party(self) -> Party {
                match self {
                    $(Self::$name => Party::$party,)*
                }
            }
        }
    };
}

/// The party that ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Party {
    /// The client.
    Client,
    /// The broker.
    Broker,
    /// The operator.
    Operator,
    /// Neither: the network between them.
    Network,
}

impl Party {
    /// The name under which it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Broker => "broker",
            Self::Operator => "operator",
            Self::Network => "network",
        }
    }
}

groups! {
    /// DISCONNECT without the will.
    Disconnect => "disconnect", Client;
    /// DISCONNECT that leaves the will due.
    DisconnectWithWill => "disconnect_with_will", Client;
    /// An orderly end of the network connection without DISCONNECT.
    PeerClosed => "peer_closed", Client;
    /// A reset of the network connection.
    Reset => "reset", Network;
    /// The peer does not answer on the network any more.
    Unreachable => "unreachable", Network;
    /// The host could not go on with the connection, or the log could not take it.
    System => "system", Broker;
    /// No packet for one and a half times the keep alive.
    KeepAlive => "keep_alive", Broker;
    /// A second connection with the same client identifier.
    TakenOver => "taken_over", Broker;
    /// A packet that cannot be read.
    Malformed => "malformed", Broker;
    /// A packet that the protocol forbids.
    ProtocolError => "protocol_error", Broker;
    /// A limit of the configuration.
    Limit => "limit", Broker;
    /// The topics of a client's aliases are longer than `alias_bytes_max` together.
    AliasesTooLong => "aliases_too_long", Broker;
    /// CONNECT is longer than `connect_bytes_max`.
    ConnectTooLong => "connect_too_long", Broker;
    /// Unknown peers hold more than `unjudged_bytes_max` together.
    UnjudgedBytes => "unjudged_bytes", Broker;
    /// The queue of the session was full, and `queue_full` says that this ends it.
    QueueFull => "queue_full", Broker;
    /// The client publishes faster than it may.
    Rate => "rate", Broker;
    /// The client does not read.
    SlowReader => "slow_reader", Broker;
    /// Memory was short.
    Memory => "memory", Broker;
    /// The client failed to authenticate.
    Authentication => "authentication", Broker;
    /// The client did what the rules about topics forbid.
    Forbidden => "forbidden", Broker;
    /// `mqtt-broker disconnect`.
    Operator => "operator", Operator;
    /// The broker stops, or is drained.
    Stop => "stop", Broker;
    /// Clients are sent to another server.
    Redirect => "redirect", Broker;
    /// `max_connections` was reached.
    TooManyConnections => "too_many_connections", Broker;
    /// A limit by address.
    AddressLimit => "address_limit", Broker;
    /// A ban.
    Banned => "banned", Broker;
    /// No CONNECT in time.
    ConnectTimeout => "connect_timeout", Broker;
    /// The client identifier was not accepted.
    ClientId => "client_id", Broker;
    /// The will was not accepted.
    Will => "will", Broker;
    /// The peer speaks TLS.
    Tls => "tls", Broker;
    /// The peer speaks HTTP.
    Http => "http", Broker;
    /// The peer begins with a header of the PROXY protocol.
    Proxy => "proxy", Broker;
}

impl CauseGroup {
    /// Whether it ends the connection of a client that was let in.
    #[must_use]
    pub const fn may_close(self) -> bool {
        !matches!(
            self,
            Self::Redirect
                | Self::TooManyConnections
                | Self::AddressLimit
                | Self::Banned
                | Self::ConnectTimeout
                | Self::ConnectTooLong
                | Self::UnjudgedBytes
                | Self::ClientId
                | Self::Will
                | Self::Tls
                | Self::Http
                | Self::Proxy
        )
    }

    /// Whether it ends a connection whose client was not let in.
    #[must_use]
    pub const fn may_refuse(self) -> bool {
        !matches!(
            self,
            Self::DisconnectWithWill
                | Self::KeepAlive
                | Self::AliasesTooLong
                | Self::QueueFull
                | Self::Rate
                | Self::SlowReader
        )
    }

    /// Position in [`CauseGroup::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}
