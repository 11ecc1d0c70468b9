//! Reason codes, the packets that may carry each, and their counterparts in 3.1.1.

use crate::protocol::PacketType;

/// Declares the reason codes as the table of section 2.4: name, number, packets.
macro_rules! reason_codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal in $($packet:ident)*;)*) => {
        /// The outcome of an operation (MQTT 5.0, table 2-6). Below 0x80 it succeeded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$meta])* $name = $code,)*
        }

        impl ReasonCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason code with this number; `None` if it is not assigned.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The packet types that may carry this code, as a set of bits.
            const fn packets(self) -> u16 {
                match self {
                    $(Self::$name => 0 $(| PacketType::$packet.bit())*,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success; in DISCONNECT normal disconnection, in SUBACK granted QoS 0.
    Success = 0x00 in ConnAck PubAck PubRec PubRel PubComp SubAck UnsubAck Disconnect Auth;
    /// The subscription is accepted with at most QoS 1.
    GrantedQoS1 = 0x01 in SubAck;
    /// The subscription is accepted with at most QoS 2.
    GrantedQoS2 = 0x02 in SubAck;
    /// The client leaves and wants its will published.
    DisconnectWithWill = 0x04 in Disconnect;
    /// The message is accepted, but there is no matching subscription.
    NoMatchingSubscribers = 0x10 in PubAck PubRec;
    /// There was no such subscription.
    NoSubscriptionExisted = 0x11 in UnsubAck;
    /// Continue the authentication with another step.
    ContinueAuthentication = 0x18 in Auth;
    /// Start a re-authentication.
    ReAuthenticate = 0x19 in Auth;
    /// The sender does not give a reason, or no other code applies.
    UnspecifiedError = 0x80 in ConnAck PubAck PubRec SubAck UnsubAck Disconnect;
    /// The packet could not be parsed.
    MalformedPacket = 0x81 in ConnAck Disconnect;
    /// The packet was unexpected or violates the protocol.
    ProtocolError = 0x82 in ConnAck Disconnect;
    /// The packet is valid but not accepted by this receiver.
    ImplementationSpecificError = 0x83 in ConnAck PubAck PubRec SubAck UnsubAck Disconnect;
    /// The server does not support the requested protocol version.
    UnsupportedProtocolVersion = 0x84 in ConnAck;
    /// The client identifier is valid but not allowed.
    ClientIdentifierNotValid = 0x85 in ConnAck;
    /// User name or password are not accepted.
    BadUserNameOrPassword = 0x86 in ConnAck;
    /// The client may not do this.
    NotAuthorized = 0x87 in ConnAck PubAck PubRec SubAck UnsubAck Disconnect;
    /// The server is not available.
    ServerUnavailable = 0x88 in ConnAck;
    /// The server is busy; try again later.
    ServerBusy = 0x89 in ConnAck Disconnect;
    /// The client has been banned.
    Banned = 0x8A in ConnAck;
    /// The server is shutting down.
    ServerShuttingDown = 0x8B in Disconnect;
    /// The authentication method is not supported or not the one in use.
    BadAuthenticationMethod = 0x8C in ConnAck Disconnect;
    /// Nothing was received for one and a half times the keep alive.
    KeepAliveTimeout = 0x8D in Disconnect;
    /// Another connection uses the same client identifier.
    SessionTakenOver = 0x8E in Disconnect;
    /// The topic filter is well formed but not accepted.
    TopicFilterInvalid = 0x8F in SubAck UnsubAck Disconnect;
    /// The topic name is well formed but not accepted.
    TopicNameInvalid = 0x90 in ConnAck PubAck PubRec Disconnect;
    /// The packet identifier is already in use.
    PacketIdentifierInUse = 0x91 in PubAck PubRec SubAck UnsubAck;
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92 in PubRel PubComp;
    /// More messages are in flight than receive maximum allows.
    ReceiveMaximumExceeded = 0x93 in Disconnect;
    /// The topic alias is 0 or above the maximum.
    TopicAliasInvalid = 0x94 in Disconnect;
    /// The packet is larger than the receiver accepts.
    PacketTooLarge = 0x95 in ConnAck Disconnect;
    /// Data is received at too high a rate.
    MessageRateTooHigh = 0x96 in Disconnect;
    /// A limit of the implementation or the administrator is exceeded.
    QuotaExceeded = 0x97 in ConnAck PubAck PubRec SubAck Disconnect;
    /// An administrator closed the connection.
    AdministrativeAction = 0x98 in Disconnect;
    /// The payload does not match its payload format indicator.
    PayloadFormatInvalid = 0x99 in ConnAck PubAck PubRec Disconnect;
    /// Retained messages are not supported.
    RetainNotSupported = 0x9A in ConnAck Disconnect;
    /// The QoS is not supported.
    QoSNotSupported = 0x9B in ConnAck Disconnect;
    /// Use another server for now.
    UseAnotherServer = 0x9C in ConnAck Disconnect;
    /// Use another server from now on.
    ServerMoved = 0x9D in ConnAck Disconnect;
    /// Shared subscriptions are not supported.
    SharedSubscriptionsNotSupported = 0x9E in SubAck Disconnect;
    /// Connections are made at too high a rate.
    ConnectionRateExceeded = 0x9F in ConnAck Disconnect;
    /// The connection has reached its maximum duration.
    MaximumConnectTime = 0xA0 in Disconnect;
    /// Subscription identifiers are not supported.
    SubscriptionIdentifiersNotSupported = 0xA1 in SubAck Disconnect;
    /// Subscriptions with wildcards are not supported.
    WildcardSubscriptionsNotSupported = 0xA2 in SubAck Disconnect;
}

impl ReasonCode {
    /// The number on the wire.
    #[must_use]
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether the operation failed.
    #[must_use]
    #[inline]
    pub const fn is_error(self) -> bool {
        self.code() >= 0x80
    }

    /// Whether a 5.0 packet of this type may carry the code.
    #[must_use]
    pub const fn is_allowed_in(self, packet_type: PacketType) -> bool {
        self.packets() & packet_type.bit() != 0
    }

    /// The return code of a 3.1.1 CONNACK that comes nearest: 0 to 5.
    ///
    /// 3.1.1 has no return code for a CONNECT that violates the protocol. The server then closes the connection without a
    /// CONNACK [MQTT-3.1.4-1]; the value 3 is returned here for completeness and is not sent.
    #[must_use]
    pub const fn connect_return_code(self) -> u8 {
        match self {
            Self::Success
            | Self::GrantedQoS1
            | Self::GrantedQoS2
            | Self::DisconnectWithWill
            | Self::NoMatchingSubscribers
            | Self::NoSubscriptionExisted
            | Self::ContinueAuthentication
            | Self::ReAuthenticate => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized | Self::Banned | Self::BadAuthenticationMethod => 5,
            Self::UnspecifiedError
            | Self::MalformedPacket
            | Self::ProtocolError
            | Self::ImplementationSpecificError
            | Self::ServerUnavailable
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::KeepAliveTimeout
            | Self::SessionTakenOver
            | Self::TopicFilterInvalid
            | Self::TopicNameInvalid
            | Self::PacketIdentifierInUse
            | Self::PacketIdentifierNotFound
            | Self::ReceiveMaximumExceeded
            | Self::TopicAliasInvalid
            | Self::PacketTooLarge
            | Self::MessageRateTooHigh
            | Self::QuotaExceeded
            | Self::AdministrativeAction
            | Self::PayloadFormatInvalid
            | Self::RetainNotSupported
            | Self::QoSNotSupported
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::SharedSubscriptionsNotSupported
            | Self::ConnectionRateExceeded
            | Self::MaximumConnectTime
            | Self::SubscriptionIdentifiersNotSupported
            | Self::WildcardSubscriptionsNotSupported => 3,
        }
    }

    /// The meaning of a return code of a 3.1.1 CONNACK; `None` for the reserved ones.
    #[must_use]
    pub const fn from_connect_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_number_and_other_numbers_have_none() {
        for code in 0..=u8::MAX {
            let known = ReasonCode::ALL.iter().copied().find(|reason| reason.code() == code);
            assert_eq!(ReasonCode::from_code(code), known);
        }
        assert_eq!(ReasonCode::ALL.len(), 43);
    }

    #[test]
    fn connect_return_codes_survive_a_round_trip() {
        for code in 0..=5 {
            let reason = ReasonCode::from_connect_return_code(code).unwrap();
            assert_eq!(reason.connect_return_code(), code);
        }
        assert_eq!(ReasonCode::from_connect_return_code(6), None);
        for reason in ReasonCode::ALL {
            assert_eq!(reason.connect_return_code() == 0, !reason.is_error(), "{reason:?}");
        }
    }

    #[test]
    fn codes_are_allowed_in_the_packets_of_table_2_6() {
        assert!(ReasonCode::PacketIdentifierNotFound.is_allowed_in(PacketType::PubRel));
        assert!(!ReasonCode::PacketIdentifierNotFound.is_allowed_in(PacketType::PubAck));
        assert!(ReasonCode::GrantedQoS2.is_allowed_in(PacketType::SubAck));
        assert!(!ReasonCode::UnsupportedProtocolVersion.is_allowed_in(PacketType::Disconnect));
        for reason in ReasonCode::ALL {
            assert!(!reason.is_allowed_in(PacketType::Publish), "{reason:?}");
        }
    }
}
