//! Every decoding error, with its message and its reason code.

use core::fmt;

use crate::reason::ReasonCode;

/// Declares the errors as one table of kind, reason code and message, so that the enum, its codes, its texts and its list
/// of all kinds cannot disagree.
macro_rules! refusals {
    ($(
        $(#[$meta:meta])*
        $name:ident $({ $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? })? => $reason:ident, $sentence:literal;
    )*) => {
        /// Why the decoder refused a packet. The peer is always at fault.
        ///
        /// 0x81 is the code for unparsable bytes and for every rule whose reason code the standard does not name. 0x82 is
        /// used only where the standard says "Protocol Error".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Malformed {
            $($(#[$meta])* $name $({ $($(#[$field_meta])* $field: $type),* })?,)*
        }

        impl Malformed {
            /// One error of each kind, with all fields zero. Compare by [`core::mem::discriminant`] to prove that a test
            /// suite provokes every kind.
            pub const ALL: &[Self] = &[$(Self::$name $({ $($field: 0),* })?,)*];

            /// The reason code for the CONNACK or DISCONNECT that reports the error to the peer [MQTT-4.13.1-1].
            #[must_use]
            pub const fn reason(self) -> ReasonCode {
                match self {
                    $(Self::$name { .. } => ReasonCode::$reason,)*
                }
            }
        }

        impl fmt::Display for Malformed {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name $({ $($field),* })? => write!(formatter, $sentence),)*
                }
            }
        }
    };
}

refusals! {
    // --- framing ---
    /// The packet type is reserved in the connection's version: 0 always, AUTH before 5.0.
    PacketTypeReserved {
        /// The type, from the upper half of the first byte.
        packet_type: u8,
    } => MalformedPacket, "packet type {packet_type} is reserved";
    /// The lower half of the first byte differs from the flags that the packet type fixes [MQTT-2.1.3-1].
    FixedHeaderFlags {
        /// The packet's first byte.
        first_byte: u8,
    } => MalformedPacket, "the first byte {first_byte:#04x} has reserved flags set";
    /// The packet is longer than the announced maximum, according to its fixed header.
    PacketTooLarge {
        /// Size of the whole packet on the wire.
        size_bytes: u32,
        /// The announced maximum.
        size_bytes_max: u32,
    } => PacketTooLarge, "the packet of {size_bytes} bytes is larger than the {size_bytes_max} bytes accepted";
    /// A variable byte integer continues after its fourth byte.
    VariableByteIntegerTooLong => MalformedPacket, "a variable byte integer is longer than four bytes";
    /// A variable byte integer uses more bytes than it needs [MQTT-1.5.5-1].
    VariableByteIntegerNotMinimal => MalformedPacket, "a variable byte integer is longer than its value needs";
    /// A field or property ends beyond the packet or the section that holds it.
    FieldTruncated => MalformedPacket, "a field ends beyond its packet";
    /// Bytes follow the packet's last field.
    TrailingBytes {
        /// How many bytes were left over.
        size_bytes: u32,
    } => MalformedPacket, "{size_bytes} bytes follow the packet's last field";

    // --- text and topics ---
    /// Text is not well-formed UTF-8, surrogates included [MQTT-1.5.4-1].
    TextNotUtf8 => MalformedPacket, "text is not well-formed UTF-8";
    /// Text contains U+0000 [MQTT-1.5.4-2].
    TextHasNull => MalformedPacket, "text contains U+0000";
    /// A topic name or filter is longer than its length field can express [MQTT-4.7.3-3].
    TopicTooLong {
        /// Its size.
        size_bytes: u32,
    } => MalformedPacket, "a topic of {size_bytes} bytes is longer than 65535 bytes";
    /// A topic name is empty [MQTT-4.7.3-1].
    TopicNameEmpty => MalformedPacket, "a topic name is empty";
    /// A topic name contains `+` or `#` [MQTT-3.3.2-2].
    TopicNameHasWildcard => MalformedPacket, "a topic name contains a wildcard";
    /// A topic filter is empty [MQTT-4.7.3-1].
    TopicFilterEmpty => MalformedPacket, "a topic filter is empty";
    /// A wildcard does not occupy a whole level, or `#` is not the last one [MQTT-4.7.1-1] [MQTT-4.7.1-2].
    TopicFilterWildcardMisplaced => MalformedPacket, "a topic filter has a misplaced wildcard";
    /// The share name of `$share/name/filter` is empty or contains a wildcard [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    ShareNameInvalid => MalformedPacket, "a share name is empty or contains a wildcard";
    /// No topic filter follows the share name [MQTT-4.8.2-2].
    SharedFilterMissing => MalformedPacket, "a shared subscription has no topic filter";
    /// A response topic is empty. It is used as a Topic Name, which is not [MQTT-4.7.3-1].
    ResponseTopicEmpty => MalformedPacket, "a response topic is empty";
    /// A response topic contains a wildcard [MQTT-3.3.2-14].
    ResponseTopicHasWildcard => MalformedPacket, "a response topic contains a wildcard";

    // --- properties ---
    /// No property has this identifier.
    PropertyUnknown {
        /// The identifier.
        identifier: u32,
    } => MalformedPacket, "there is no property {identifier:#04x}";
    /// The property is not valid in a packet of this type.
    PropertyNotAllowed {
        /// The identifier.
        identifier: u32,
    } => MalformedPacket, "property {identifier:#04x} is not allowed in this packet";
    /// A property occurs twice that may occur once.
    PropertyDuplicate {
        /// The identifier.
        identifier: u32,
    } => ProtocolError, "property {identifier:#04x} occurs more than once";
    /// A property's value is outside its domain.
    PropertyValueInvalid {
        /// The identifier.
        identifier: u32,
        /// The value.
        value: u32,
    } => ProtocolError, "property {identifier:#04x} has the forbidden value {value}";
    /// A topic alias is 0 [MQTT-3.3.2-8].
    TopicAliasZero => TopicAliasInvalid, "a topic alias is 0";
    /// CONNECT has authentication data but no authentication method.
    AuthenticationDataWithoutMethod => ProtocolError, "authentication data is present without an authentication method";
    /// AUTH names no authentication method.
    AuthenticationMethodMissing => ProtocolError, "AUTH names no authentication method";

    // --- CONNECT and CONNACK ---
    /// The protocol name is neither `MQTT` nor `MQIsdp` [MQTT-3.1.2-1].
    ProtocolNameUnknown => UnsupportedProtocolVersion, "the protocol name is not MQTT";
    /// The protocol level is not supported [MQTT-3.1.2-2].
    UnsupportedProtocolVersion {
        /// The level byte.
        level: u8,
    } => UnsupportedProtocolVersion, "protocol level {level} is not supported";
    /// The reserved connect flag is set [MQTT-3.1.2-3].
    ConnectFlagReserved => MalformedPacket, "the reserved connect flag is set";
    /// The will's QoS is 3 [MQTT-3.1.2-12].
    WillQosInvalid => MalformedPacket, "the will's QoS is 3";
    /// Will QoS or will retain are set though there is no will [MQTT-3.1.2-11] [MQTT-3.1.2-13].
    WillFlagsWithoutWill => MalformedPacket, "will QoS or will retain are set without a will";
    /// Before 5.0: a password without a user name [MQTT-3.1.2-22].
    PasswordWithoutUserName => MalformedPacket, "a password is present without a user name";
    /// A reserved connect acknowledge flag is set [MQTT-3.2.2-1].
    ConnAckFlagsReserved => MalformedPacket, "a reserved connect acknowledge flag is set";
    /// A refused connection claims a session [MQTT-3.2.2-6].
    SessionPresentWithError => MalformedPacket, "session present is set in a CONNACK that refuses";

    // --- PUBLISH and the acknowledgements ---
    /// Both QoS bits are set [MQTT-3.3.1-4].
    QosInvalid => MalformedPacket, "both QoS bits are set";
    /// DUP is set with QoS 0 [MQTT-3.3.1-2].
    DupWithQos0 => MalformedPacket, "DUP is set with QoS 0";
    /// The topic name is empty and there is no topic alias.
    TopicNameMissing => ProtocolError, "the packet has neither a topic name nor a topic alias";
    /// The packet identifier is 0 [MQTT-2.2.1-3].
    PacketIdZero => MalformedPacket, "the packet identifier is 0";
    /// The reason code is unknown or not valid in a packet of this type.
    ReasonCodeNotAllowed {
        /// The code.
        code: u8,
    } => MalformedPacket, "reason code {code:#04x} is not allowed in this packet";

    // --- SUBSCRIBE, UNSUBSCRIBE and their answers ---
    /// There is no topic filter [MQTT-3.8.3-2] [MQTT-3.10.3-2].
    TopicFiltersMissing => ProtocolError, "the packet has no topic filter";
    /// Reserved bits of the subscription options are set [MQTT-3.8.3-5].
    SubscribeOptionsReserved => MalformedPacket, "reserved bits of the subscription options are set";
    /// The requested QoS is 3.
    SubscribeQosInvalid => ProtocolError, "the requested QoS is 3";
    /// The retain handling is 3.
    RetainHandlingInvalid => ProtocolError, "the retain handling is 3";
    /// No local is set on a shared subscription [MQTT-3.8.3-4].
    SharedNoLocal => ProtocolError, "no local is set on a shared subscription";
    /// SUBACK or UNSUBACK has no reason code.
    ReasonCodesMissing => MalformedPacket, "the packet has no reason code";
}

impl core::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn every_refusal_maps_to_an_error_reason_code() {
        for refusal in Malformed::ALL {
            assert!(refusal.reason().is_error(), "{refusal:?}");
        }
    }

    #[test]
    fn messages_are_distinct_and_name_the_bound() {
        for (index, refusal) in Malformed::ALL.iter().enumerate() {
            for other in &Malformed::ALL[..index] {
                assert_ne!(refusal.to_string(), other.to_string());
            }
        }
        let refusal = Malformed::PacketTooLarge { size_bytes: 300, size_bytes_max: 256 };
        assert_eq!(refusal.to_string(), "the packet of 300 bytes is larger than the 256 bytes accepted");
        assert_eq!(Malformed::PropertyUnknown { identifier: 0x7F }.to_string(), "there is no property 0x7f");
    }
}
