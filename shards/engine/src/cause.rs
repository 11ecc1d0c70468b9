//! Why a connection ended: one precise cause, the group that it is counted under, the reason code that tells the peer, and
//! the sentence that tells a person.
//!
//! Invariant: the four stand in one table, so each cause has all of them and they cannot disagree.

mod group;

use core::fmt;

pub use group::{CauseGroup, Party};
use wire::{Malformed, ReasonCode};

use crate::base::ids::ConnectionId;
use crate::limits::Limits;

/// Declares the causes as one table of name, group, reason code and sentence.
macro_rules! causes {
    ($($(#[$meta:meta])* $name:ident $(($field:ty))? => $group:ident, $code:ident, $sentence:literal;)*) => {
        /// Why a connection ended, or was never let in.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Cause {
            $($(#[$meta])* $name $(($field))?,)*
        }

        impl Cause {
            /// The group that it is counted under.
            #[must_use]
            pub const fn group(self) -> CauseGroup {
                match self {
                    $(Self::$name { .. } => CauseGroup::$group,)*
                }
            }

            /// The reason code in the table.
            const fn usual_reason(self) -> ReasonCode {
                match self {
                    $(Self::$name { .. } => ReasonCode::$code,)*
                }
            }

            const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $sentence,)*
                }
            }
        }
    };
}

causes! {
    // --- the client, or the network ---
    /// DISCONNECT with 0x00 [MQTT-3.14.4-3].
    Disconnected => Disconnect, Success, "the client sent DISCONNECT";
    /// DISCONNECT with another reason, which leaves the will due.
    DisconnectedWithWill(ReasonCode) => DisconnectWithWill, Success, "the client sent DISCONNECT and asked for its will";
    /// The peer closed the network connection.
    PeerClosed => PeerClosed, UnspecifiedError, "the client closed the network connection without DISCONNECT";
    /// The peer, or something on the way, reset it.
    PeerReset => Reset, UnspecifiedError, "the network connection was reset";
    /// The system gave up on a peer that answers nothing.
    PeerUnreachable => Unreachable, UnspecifiedError, "the peer does not answer on the network any more";
    /// The host closed it for a reason of its own.
    HostFailed => System, UnspecifiedError, "the system refused what the connection needs";

    // --- time, and people ---
    /// [MQTT-3.1.2-22]
    KeepAlive => KeepAlive, KeepAliveTimeout,
        "no packet came for one and a half times the keep alive; send PINGREQ in time or set a longer keep alive";
    /// See `Limits::connect_timeout_ms`.
    ConnectTimeout => ConnectTimeout, UnspecifiedError, "no complete CONNECT came in time";
    /// A connection of the same client identifier that was accepted later is open already.
    Superseded => TakenOver, ServerUnavailable, "a newer connection of this client identifier is open";
    /// Another connection has the client identifier now.
    TakenOver(ConnectionId) => TakenOver, SessionTakenOver,
        "another connection has this client identifier now; give each client an identifier of its own";
    /// See [`crate::Event::Disconnect`].
    Operator => Operator, AdministrativeAction, "the operator closed the connection";
    /// See [`crate::Event::Users`].
    UserGone => Authentication, NotAuthorized, "the user of the client was removed";
    /// See [`crate::Event::Users`].
    UserRenewed => Authentication, NotAuthorized, "the user of the client has a new password; connect again with it";
    /// See [`crate::Event::Revoked`].
    CertificateRevoked => Authentication, AdministrativeAction, "the certificate of the client is revoked; give it another one";
    /// See [`crate::Event::Stop`].
    Stopping => Stop, ServerShuttingDown, "the broker stops";
    /// See [`crate::Event::Drain`].
    Drained => Stop, ServerShuttingDown, "the broker is being drained; connect to another one";

    // --- packets ---
    /// A packet cannot be read.
    Malformed(Malformed) => Malformed, MalformedPacket, "a packet cannot be read";
    /// The first packet is none [MQTT-3.1.0-1].
    NotConnect => ProtocolError, ProtocolError, "the first packet is not CONNECT; does the peer speak MQTT?";
    /// The first bytes are those of a TLS handshake.
    Tls => Tls, ProtocolError, "the peer speaks TLS and this listener does not; turn TLS off in the client or use a proxy";
    /// The first bytes are those of an HTTP request.
    Http => Http, ProtocolError,
        "the peer speaks HTTP, or MQTT over WebSocket; this listener speaks MQTT over plain TCP";
    /// The first bytes are those of a PROXY header.
    Proxy => Proxy, ProtocolError,
        "the peer begins with a PROXY header, which this listener does not expect; turn it off in the load balancer";
    /// [MQTT-3.1.0-2]
    SecondConnect => ProtocolError, ProtocolError, "a second CONNECT came on the connection";
    /// CONNACK, SUBACK, UNSUBACK or PINGRESP.
    ServerPacket => ProtocolError, ProtocolError, "a packet came that only a server may send";
    /// An acknowledgement that fits nothing under way [MQTT-4.3.3-4].
    OutOfStage => ProtocolError, ProtocolError, "an acknowledgement does not fit the QoS handshake that it names";
    /// See `Limits::denied_publish_closes`.
    PublishForbidden => Forbidden, NotAuthorized, "the client published to a topic that the rules forbid to it";
    /// [MQTT-3.1.2-30] [MQTT-4.12.0-7]
    UnexpectedAuth => ProtocolError, ProtocolError, "AUTH or another packet came where authentication does not allow it";
    /// [3.14.2.2.2]
    ExpiryRaised => ProtocolError, ProtocolError, "DISCONNECT sets a session expiry interval after CONNECT said 0";
    /// [MQTT-3.3.4-6]
    SubscriptionIdFromClient => ProtocolError, ProtocolError, "a PUBLISH of a client has a subscription identifier";
    /// The alias has no topic.
    UnknownAlias => ProtocolError, ProtocolError, "a PUBLISH uses a topic alias that was not set before";
    /// [MQTT-3.2.2-17]
    AliasAboveMaximum => ProtocolError, TopicAliasInvalid, "a topic alias is higher than CONNACK allows";
    /// [MQTT-3.3.4-9]
    ReceiveMaximum => ProtocolError, ReceiveMaximumExceeded,
        "more QoS 1 and 2 messages are unacknowledged than the Receive Maximum of CONNACK allows";
    /// [MQTT-3.2.2-11]
    QosAboveMaximum => ProtocolError, QoSNotSupported, "a PUBLISH has a higher QoS than CONNACK allows";
    /// [MQTT-3.2.2-14]
    RetainUnavailable => ProtocolError, RetainNotSupported, "a PUBLISH is to be retained, which CONNACK rules out";
    /// [3.2.2.3.13]
    SharedUnavailable => ProtocolError, SharedSubscriptionsNotSupported,
        "a subscription is shared, which CONNACK rules out";
    /// [3.2.2.3.12]
    SubscriptionIdUnavailable => ProtocolError, SubscriptionIdentifiersNotSupported,
        "a subscription has an identifier, which CONNACK rules out";
    /// [3.2.2.3.11]
    WildcardUnavailable => ProtocolError, WildcardSubscriptionsNotSupported,
        "a subscription has a wildcard, which CONNACK rules out";
    /// See `Limits::check_payload_format`.
    PayloadFormat => ProtocolError, PayloadFormatInvalid, "a payload is not UTF-8, as its format indicator says";

    // --- limits ---
    /// See `Limits::topic_levels_max`.
    TopicLevels => Limit, TopicNameInvalid, "a topic has more levels than are accepted; use a shorter topic";
    /// The answer to a SUBSCRIBE, UNSUBSCRIBE or AUTH would be too long [MQTT-3.1.2-24].
    AnswerTooLong => Limit, PacketTooLarge, "an answer is longer than the client's Maximum Packet Size; ask for less at once";
    /// See `Limits::alias_bytes_max`. Not 0x94: an alias within the announced maximum is never invalid [MQTT-3.3.2-9].
    AliasBytes => AliasesTooLong, QuotaExceeded,
        "the topics of the aliases are longer than is kept for one connection; use fewer aliases or shorter topics";
    /// See `Limits::authentication_bytes_max`.
    AuthenticationBytes => Limit, QuotaExceeded, "authentication method and data are longer than is accepted";
    /// A 3.1.1 client cannot be told otherwise [MQTT-3.3.5-2].
    PublishRefused(ReasonCode) => Limit, QuotaExceeded,
        "a PUBLISH was refused, which a client before MQTT 5.0 cannot be told; see the limits of topics and of memory";
    /// See `Limits::queue_full`.
    QueueFull => QueueFull, QuotaExceeded,
        "the queue of the session is full, and the broker is set to end the session then; read faster";
    /// See [`crate::Rates`].
    PublishRate => Rate, MessageRateTooHigh,
        "the client publishes faster than publish_rate or publish_bytes_rate allows; publish more slowly";
    /// See `Limits::outbox_bytes_max`.
    OutboxFull => SlowReader, QuotaExceeded, "the client does not read: too many bytes wait for it; read faster";
    /// See `Limits::memory_bytes_max`.
    PartialPacket => Memory, QuotaExceeded, "memory is short, and a long packet has come in part only; try again later";
    /// While memory was short, the client took no byte for a time.
    ReaderStalled => SlowReader, QuotaExceeded,
        "memory is short, and the client has taken nothing of what waits for it for ten seconds; read faster";
    /// A client before MQTT 5.0 cannot be told otherwise.
    PublishDelayed => Memory, QuotaExceeded,
        "memory is short, and a PUBLISH waited too long for room; the client sends it again when it is back";
    /// See `Limits::memory_bytes_max`.
    AliasMemory => Memory, QuotaExceeded, "memory is short, and a topic alias would need some; try again later";

    // --- CONNECT ---
    /// See `Limits::connect_bytes_max`.
    ConnectTooLong => ConnectTooLong, PacketTooLarge,
        "CONNECT, or AUTH that follows it, is longer than is accepted from a client that is not known yet";
    /// See `Limits::unjudged_bytes_max`.
    UnjudgedBytes => UnjudgedBytes, QuotaExceeded,
        "peers that are not known yet hold too many bytes together, and this one the most; try again later";
    /// See [`crate::Admission::TurnAway`].
    TooManyConnections => TooManyConnections, QuotaExceeded,
        "the broker has as many connections as max_connections or the limit of open files allows; try again later or raise it";
    /// See [`crate::Refused`].
    AddressConnections => AddressLimit, ConnectionRateExceeded,
        "its address has as many connections as connections_per_address_max allows; close some or raise it";
    /// See [`crate::Refused`].
    AddressRate => AddressLimit, ConnectionRateExceeded,
        "its address connects more often than connects_per_address_rate allows; wait longer between two attempts";
    /// See [`crate::Refused`], and a verdict with 0x8A.
    Banned => Banned, Banned, "it is banned for a time; `mqtt-broker bans` shows and lifts bans";
    /// See `Limits::sessions_max`.
    TooManySessions => Limit, QuotaExceeded,
        "the broker has as many sessions as are allowed; let sessions expire sooner or raise the limit";
    /// See `Limits::memory_bytes_max`.
    SessionMemory => Memory, QuotaExceeded, "memory is short, and a new session would need some; try again later";
    /// See [`crate::LogRoom`].
    NoLog => System, ServerUnavailable,
        "the journal has failed or is full, so the broker promises nothing that has to survive; see its log";
    /// [MQTT-3.1.2-24]
    ConnackTooLong => Limit, ImplementationSpecificError, "CONNACK is longer than the client's Maximum Packet Size";
    /// See `Limits::redirect`.
    UseAnotherServer => Redirect, UseAnotherServer, "clients are sent to another server";
    /// See `Limits::redirect`.
    ServerMoved => Redirect, ServerMoved, "clients are sent to another server for good";
    /// [MQTT-4.12.0-1]
    UnknownMethod => Authentication, BadAuthenticationMethod,
        "the authentication method is not offered here; connect without one or with another";
    /// The host has not judged CONNECT in `Limits::connect_timeout_ms`.
    VerdictTimeout => Authentication, ServerUnavailable, "it took too long to judge who the client is; try again later";
    /// The verdict binds its user to another client identifier.
    ClientIdOfAnother => ClientId, ClientIdentifierNotValid,
        "the client identifier is not the one that this user has to use";
    /// See [`crate::UserGrant`].
    GrantEnded => Authentication, MaximumConnectTime,
        "the time for which the client was authenticated is over; connect again, or authenticate again in time";
    /// See `Limits::session_owner`.
    SessionOfAnother => ClientId, ClientIdentifierNotValid,
        "the session of this client identifier belongs to another user; use an identifier of your own";
    /// The host has judged so.
    AuthenticationFailed(ReasonCode) => Authentication, NotAuthorized, "the client failed to authenticate";
    /// See `Limits::client_id_bytes_max`.
    ClientIdTooLong => ClientId, ClientIdentifierNotValid, "the client identifier is longer than is accepted; use a shorter one";
    /// See `Limits::assigned_client_ids` [MQTT-3.1.3-8].
    ClientIdMissing => ClientId, ClientIdentifierNotValid,
        "the client identifier is empty and none is assigned; set one, or clean session with MQTT 3.1.1";
    /// See [`crate::ClientIdSource`].
    ClientNameMissing => ClientId, ClientIdentifierNotValid,
        "the listener takes client identifiers from user names or certificates, and the client has none that can be used";
    /// See [`crate::ClientIdSource`].
    ClientIdNotName => ClientId, ClientIdentifierNotValid,
        "the client identifier is not the client's name; on this listener it has to be empty or equal to it";
    /// The rules have a placeholder for it.
    NameForbidden => ClientId, ClientIdentifierNotValid,
        "a rule of this client has a placeholder, and the client identifier or user name is empty or contains /, + or #";
    /// See `rules::SetFault`.
    RolesForbidden => Limit, QuotaExceeded, "the client has more roles than are allowed";
    /// The rules forbid its topic.
    WillForbidden => Will, NotAuthorized, "the client may not publish to the topic of its will";
    /// The topic belongs to the broker.
    WillDenied => Will, NotAuthorized, "the topic of the will is one of the broker's own";
    /// See `Limits::topic_levels_max`.
    WillTopicLevels => Will, TopicNameInvalid, "the topic of the will has more levels than are accepted";
    /// Memory is short.
    WillMemory => Memory, QuotaExceeded, "memory is short, and the will would need some; try again later";
    /// [MQTT-3.2.2-12]
    WillQos => Will, QoSNotSupported, "the will has a higher QoS than is accepted";
    /// [MQTT-3.2.2-13]
    WillRetain => Will, RetainNotSupported, "the will is to be retained, which is not offered";
    /// See `Limits::check_payload_format`.
    WillPayloadFormat => Will, PayloadFormatInvalid, "the payload of the will is not UTF-8, as its format indicator says";
}

// Every handler of a packet returns one.
const _: () = assert!(size_of::<Cause>() <= 12);

impl Cause {
    /// The reason code that tells the peer, in CONNACK or DISCONNECT.
    #[must_use]
    pub fn reason(self) -> ReasonCode {
        match self {
            Self::Malformed(malformed) => malformed.reason(),
            Self::AuthenticationFailed(reason) => reason,
            _ => self.usual_reason(),
        }
    }

    /// Whether the peer broke the protocol.
    pub(crate) const fn is_protocol_error(self) -> bool {
        matches!(
            self.group(),
            CauseGroup::Malformed
                | CauseGroup::ProtocolError
                | CauseGroup::Tls
                | CauseGroup::Http
                | CauseGroup::Proxy
        )
    }

    /// The setting that it names, with its value.
    fn setting(self, limits: &Limits) -> Option<(&'static str, u64)> {
        Some(match self {
            Self::ConnectTimeout => ("connect_timeout_s", u64::from(limits.connect_timeout_ms) / 1_000),
            Self::TopicLevels | Self::WillTopicLevels => {
                ("topic_levels_max", u64::from(limits.topic_levels_max))
            }
            Self::AuthenticationBytes => {
                ("authentication_bytes_max", u64::from(limits.authentication_bytes_max))
            }
            Self::AliasBytes => ("alias_bytes_max", u64::from(limits.alias_bytes_max)),
            Self::ConnectTooLong => ("connect_bytes_max", u64::from(limits.connect_bytes_max)),
            Self::UnjudgedBytes => ("unjudged_bytes_max", limits.unjudged_bytes_max),
            Self::QueueFull => ("queue_messages_max", u64::from(limits.queue_messages_max)),
            Self::OutboxFull => ("outbox_bytes_max", u64::from(limits.outbox_bytes_max)),
            Self::PartialPacket
            | Self::WillMemory
            | Self::PublishDelayed
            | Self::ReaderStalled
            | Self::AliasMemory
            | Self::SessionMemory => ("memory_bytes_max", limits.memory_bytes_max),
            Self::ClientIdTooLong => ("client_id_bytes_max", u64::from(limits.client_id_bytes_max)),
            Self::ReceiveMaximum => ("receive_maximum", u64::from(limits.receive_maximum)),
            Self::AliasAboveMaximum => ("topic_alias_maximum", u64::from(limits.topic_alias_maximum)),
            _ => return None,
        })
    }

    /// The sentence for a person, with the setting that it names and that setting's value.
    #[must_use]
    pub fn explained(self, limits: &Limits) -> impl fmt::Display {
        Explained { cause: self, setting: self.setting(limits) }
    }
}

/// A cause with the value of the setting that it names.
struct Explained {
    cause: Cause,
    setting: Option<(&'static str, u64)>,
}

impl fmt::Display for Explained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Malformed(malformed) => malformed.fmt(formatter)?,
            cause => formatter.write_str(cause.sentence())?,
        }
        match self.cause {
            Cause::PublishRefused(reason)
            | Cause::AuthenticationFailed(reason)
            | Cause::DisconnectedWithWill(reason) => write!(formatter, " ({:#04x})", reason.code())?,
            _ => {}
        }
        match self.setting {
            Some((key, value)) => write!(formatter, " ({key} = {value})"),
            None => Ok(()),
        }
    }
}
