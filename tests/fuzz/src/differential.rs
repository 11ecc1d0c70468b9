//! One packet decoded by our codec and by mqtt-proto, an independent implementation. Both refuse it, or both decode the
//! same, or the difference belongs to a known class, which `README.md` explains by the standard.

use arbitrary::{Arbitrary, Unstructured};
use mqtt_proto::{Error, v3, v5};
use wire::{Assembler, Frame, Malformed, Packet, PacketType, ProtocolVersion};

use crate::choices::Choices;
use crate::packets;
use crate::stream::VERSIONS;

/// A known difference between the codecs. Any other difference is a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Ours refuses variable byte integers that are longer than their value needs.
    LongInteger,
    /// Ours refuses bytes after the last field.
    TrailingBytes,
    /// Ours refuses U+0000 in text.
    NullInText,
    /// Ours refuses a PUBLISH without topic and alias, and a will without topic.
    NoTopic,
    /// Ours refuses 0 for Receive Maximum, Maximum Packet Size and Subscription Identifier.
    ZeroProperty,
    /// Ours refuses the topic alias 0.
    ZeroAlias,
    /// Ours refuses an empty response topic.
    EmptyResponseTopic,
    /// Ours takes the protocol levels of a bridge of mosquitto.
    BridgeLevel,
    /// Ours refuses authentication data without a method, and an AUTH without one.
    NoMethod,
    /// Ours refuses Will Retain without a will.
    RetainWithoutWill,
    /// Ours refuses a password without a user name before 5.0.
    PasswordAlone,
    /// Ours refuses a CONNACK with a failure code and Session Present.
    RefusalWithSession,
    /// Ours refuses DUP with QoS 0.
    DupWithQos0,
    /// Ours refuses No Local on a shared subscription.
    SharedNoLocal,
    /// Ours refuses a SUBACK or UNSUBACK without a reason code.
    NoReasons,
    /// Ours refuses a `+` that is not followed by `/`.
    WildcardNotAlone,
    /// Theirs checks whether the payload is the text that its indicator promises.
    PayloadFormat,
    /// Theirs supports only one subscription identifier in a PUBLISH.
    ManySubscriptionIds,
    /// Ours ignores the flags that 3.1 has and 3.1.1 removed: DUP of repeated packets, the reserved byte of CONNACK.
    FlagsOf31,
    /// Theirs encodes the failure in a SUBACK before 5.0 as 0x03.
    WrittenFailure,
    /// Ours accepts 0x8C in a DISCONNECT: table 2-6 lists it there, table 3-10 does not.
    MethodInDisconnect,
}

impl Class {
    /// Every class, in order.
    pub const ALL: &[Self] = &[
        Self::LongInteger,
        Self::TrailingBytes,
        Self::NullInText,
        Self::NoTopic,
        Self::ZeroProperty,
        Self::ZeroAlias,
        Self::EmptyResponseTopic,
        Self::BridgeLevel,
        Self::NoMethod,
        Self::RetainWithoutWill,
        Self::PasswordAlone,
        Self::RefusalWithSession,
        Self::DupWithQos0,
        Self::SharedNoLocal,
        Self::NoReasons,
        Self::WildcardNotAlone,
        Self::PayloadFormat,
        Self::ManySubscriptionIds,
        Self::FlagsOf31,
        Self::WrittenFailure,
        Self::MethodInDisconnect,
    ];
}

/// The result of comparing one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Both decode the same packet.
    Same,
    /// Both refuse it.
    Refused,
    /// They differ in a known way.
    Known(Class),
}

#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "only one exists at a time")]
enum Theirs {
    V3(v3::Packet),
    V5(v5::Packet),
}

#[derive(Debug)]
enum TheirRefusal {
    /// The packet is incomplete.
    Truncated,
    V3(Error),
    V5(v5::ErrorV5),
}

/// The first bytes select how the packet is made, and the rest makes it.
///
/// # Panics
/// If the codecs differ in an unknown way.
pub fn check(input: &[u8]) {
    if let Some((version, packet)) = packet_of(input) {
        judge(version, &packet);
    }
}

/// The packet of an input.
#[must_use]
pub fn packet_of(input: &[u8]) -> Option<(ProtocolVersion, Vec<u8>)> {
    let mut choices = Choices::new(input);
    let version = choices.pick(&VERSIONS);
    let source = choices.index(3);
    let is_damaged = choices.one_in(2);
    let mut packet = match source {
        0 => choices.bytes(usize::MAX).to_vec(),
        1 => {
            let kind = choices.pick(&PacketType::ALL);
            let mut packet = Vec::new();
            packets::packet(version, kind, &mut choices, &mut packet);
            packet
        }
        _ => {
            let mut rest = Unstructured::new(choices.bytes(usize::MAX));
            let encoded = if version.is_v5() {
                v5::Packet::arbitrary(&mut rest).ok()?.encode()
            } else {
                v3::Packet::arbitrary(&mut rest).ok()?.encode()
            };
            encoded.ok()?.as_ref().to_vec()
        }
    };
    if packet.len() < 2 {
        return None;
    }
    if is_damaged && source == 1 {
        packets::damage(&mut choices, &mut packet);
    }
    Some((version, packet))
}

/// Decodes the first packet of `bytes` with both codecs.
///
/// # Panics
/// If they differ in an unknown way.
pub fn judge(version: ProtocolVersion, bytes: &[u8]) -> Verdict {
    let mut rest = bytes;
    let mut assembler = Assembler::new();
    let ours = match assembler.next(&mut rest, wire::PACKET_BYTES_MAX) {
        // Framing decides where a packet ends, and both codecs have to wait.
        Ok(None) => return Verdict::Refused,
        Ok(Some(frame)) => Packet::decode(version, frame),
        Err(refusal) => Err(refusal),
    };
    let packet = &bytes[..bytes.len() - rest.len()];
    let version = match ours {
        Ok(Packet::Connect(connect)) => connect.version,
        _ if packet[0] >> 4 == PacketType::Connect as u8 => named_version(packet),
        _ => version,
    };
    let theirs = read_theirs(version, packet);
    let verdict = match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => compare(version, ours, theirs),
        (Err(_), Err(_)) => Some(Verdict::Refused),
        (Err(refusal), Ok(_)) => stricter(version, *refusal).map(Verdict::Known),
        (Ok(ours), Err(refusal)) => laxer(version, ours, refusal).map(Verdict::Known),
    };
    verdict.unwrap_or_else(|| panic!("{version:?} {packet:x?}\nours:   {ours:?}\ntheirs: {theirs:?}"))
}

/// The version in a CONNECT.
fn named_version(packet: &[u8]) -> ProtocolVersion {
    if packet.windows(7).any(|window| window == b"\0\x04MQTT\x05") {
        ProtocolVersion::V5
    } else {
        ProtocolVersion::V3_1_1
    }
}

fn read_theirs(version: ProtocolVersion, packet: &[u8]) -> Result<Theirs, TheirRefusal> {
    if version.is_v5() {
        let read = v5::Packet::decode(packet).map_err(TheirRefusal::V5)?;
        read.map(Theirs::V5).ok_or(TheirRefusal::Truncated)
    } else {
        let read = v3::Packet::decode(packet).map_err(TheirRefusal::V3)?;
        read.map(Theirs::V3).ok_or(TheirRefusal::Truncated)
    }
}

/// Two packets are the same if each codec decodes the other's encoding as it decoded the original.
fn compare(version: ProtocolVersion, ours: &Packet<'_>, theirs: &Theirs) -> Option<Verdict> {
    let mut written_by_us = Vec::new();
    ours.encode(version, &mut written_by_us);
    let written_by_them = match theirs {
        Theirs::V3(packet) => packet.encode(),
        Theirs::V5(packet) => packet.encode(),
    };
    let written_by_them = written_by_them.expect("they can encode what they decode");
    let is_read_by_us = decode(version, written_by_them.as_ref(), |read| read == Ok(*ours));
    let is_read_by_them = read_theirs(version, &written_by_us).is_ok_and(|read| read == *theirs);
    if is_read_by_us && is_read_by_them {
        return Some(Verdict::Same);
    }
    if let (Packet::SubAck(suback), true, false) = (ours, !version.is_v5() && is_read_by_them, is_read_by_us)
        && suback.reasons.iter().any(wire::ReasonCode::is_error)
    {
        return Some(Verdict::Known(Class::WrittenFailure));
    }
    // The Session Present byte of 3.1.1 is reserved in 3.1.
    let is_reserved = version == ProtocolVersion::V3_1 && matches!(ours, Packet::ConnAck(_)) && is_read_by_us;
    is_reserved.then_some(Verdict::Known(Class::FlagsOf31))
}

fn decode<R>(
    version: ProtocolVersion,
    mut bytes: &[u8],
    look: impl FnOnce(Result<Packet<'_>, Malformed>) -> R,
) -> R {
    let mut assembler = Assembler::new();
    let frame: Frame<'_> = assembler
        .next(&mut bytes, wire::PACKET_BYTES_MAX)
        .expect("their headers are valid")
        .expect("their packets are complete");
    look(Packet::decode(version, frame))
}

/// Ours refuses a packet that theirs accepts. Every class is one error, in the versions with that rule.
fn stricter(version: ProtocolVersion, refusal: Malformed) -> Option<Class> {
    Some(match refusal {
        Malformed::VariableByteIntegerNotMinimal => Class::LongInteger,
        Malformed::TrailingBytes { .. } => Class::TrailingBytes,
        Malformed::TextHasNull => Class::NullInText,
        Malformed::TopicNameMissing | Malformed::TopicNameEmpty => Class::NoTopic,
        Malformed::PropertyValueInvalid { identifier: 0x0B | 0x21 | 0x27, value: 0 } => Class::ZeroProperty,
        Malformed::TopicAliasZero => Class::ZeroAlias,
        Malformed::ResponseTopicEmpty => Class::EmptyResponseTopic,
        Malformed::AuthenticationDataWithoutMethod | Malformed::AuthenticationMethodMissing => {
            Class::NoMethod
        }
        Malformed::WillFlagsWithoutWill => Class::RetainWithoutWill,
        Malformed::PasswordWithoutUserName if !version.is_v5() => Class::PasswordAlone,
        Malformed::SessionPresentWithError => Class::RefusalWithSession,
        Malformed::DupWithQos0 => Class::DupWithQos0,
        Malformed::SharedNoLocal => Class::SharedNoLocal,
        Malformed::ReasonCodesMissing => Class::NoReasons,
        Malformed::TopicFilterWildcardMisplaced => Class::WildcardNotAlone,
        _ => return None,
    })
}

/// Theirs refuses a packet that ours accepts.
fn laxer(version: ProtocolVersion, ours: &Packet<'_>, refusal: &TheirRefusal) -> Option<Class> {
    if matches!(ours, Packet::Connect(connect) if connect.is_bridge) {
        return Some(Class::BridgeLevel);
    }
    let says_text = match ours {
        Packet::Publish(publish) => {
            publish.properties.payload_format_utf8 == Some(true) && str::from_utf8(publish.payload).is_err()
        }
        Packet::Connect(connect) => connect.will.is_some_and(|will| {
            will.properties.payload_format_utf8 == Some(true) && str::from_utf8(will.payload).is_err()
        }),
        _ => false,
    };
    match (refusal, ours) {
        (TheirRefusal::V5(v5::ErrorV5::InvalidPayloadFormat), _) if says_text => Some(Class::PayloadFormat),
        (
            TheirRefusal::V5(v5::ErrorV5::DuplicatedProperty(v5::PropertyId::SubscriptionIdentifier)),
            Packet::Publish(publish),
        ) if publish.properties.subscription_ids.iter().count() > 1 => Some(Class::ManySubscriptionIds),
        (
            TheirRefusal::V5(v5::ErrorV5::InvalidReasonCode(v5::PacketType::Disconnect, 0x8C)),
            Packet::Disconnect(_),
        ) => Some(Class::MethodInDisconnect),
        (
            TheirRefusal::V3(Error::InvalidHeader),
            Packet::PubRel(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_),
        )
        | (TheirRefusal::V3(Error::InvalidConnackFlags(_)), Packet::ConnAck(_))
            if version == ProtocolVersion::V3_1 =>
        {
            Some(Class::FlagsOf31)
        }
        _ => None,
    }
}
