//! Deliberate faults of a broker. Each fault changes the packets that a good broker sends or receives. `proxy` stands
//! between the test and the broker and applies the fault to each packet.

#![allow(dead_code, reason = "a catalogue: not every fault is used by a case")]

use crate::harness::packet::Version;
use crate::raw_packet::{
    CONNACK, CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, RawPacket, SUBSCRIBE, UNSUBACK,
    UNSUBSCRIBE,
};

/// Connect flags: a will is present, and how it is published.
const WILL_FLAG: u8 = 0x04;
const WILL_BITS: u8 = 0x38;

/// One fault. Packets are named by their type; `To…` changes client packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No fault: the proxy itself must not make a case fail.
    Nothing,
    /// Does not close where it must.
    StaysOpen,
    /// Closes at the client's first packet of this type instead of handling it.
    ClosesOn(u8),
    /// Never sends packets of this type.
    Loses(u8),
    /// Sends each packet of this type twice.
    Doubles(u8),
    /// Sends these packets before the CONNACK.
    SendsBeforeConnack(&'static [u8]),
    /// Answers with another reason code: success for failure, failure for success.
    OtherReason(u8),
    /// Answers with this reason code instead of success, or the other way round.
    Reason(u8, u8),
    /// Sends another Packet Identifier in packets of this type.
    OtherPacketId(u8),
    /// Flips bits of the first byte in packets of this type.
    FirstByte(u8, u8),
    /// Flips the bits of the CONNACK flags.
    ConnackFlags(u8),
    /// Sends another topic.
    OtherTopic,
    /// Sends another payload.
    OtherPayload,
    /// Sends every message with QoS 0.
    DowngradesPublishes,
    /// Sends two PUBLISH packets in the wrong order.
    SwapsPublishes,
    /// Omits this property from packets of this type.
    LosesProperty(u8, u8),
    /// Adds this property (identifier and value) to packets of this type.
    AddsProperty(u8, &'static [u8]),
    /// Changes the last byte of this property's value in packets of this type; of the first, if there are several.
    ChangesProperty(u8, u8),
    /// Reverses the order of the properties.
    ReversesProperties(u8),
    /// Reverses the order of the reason codes of SUBACK and UNSUBACK.
    ReversesReasons(u8),
    /// Sends one reason code less than there are filters.
    LosesReason(u8),
    /// Ignores clients' packets of this type.
    Ignores(u8),
    /// Answers UNSUBSCRIBE but does not unsubscribe.
    KeepsSubscriptions,
    /// Treats each connection as one with a new client identifier.
    ForgetsClients,
    /// Treats every CONNECT as one with this connect flag: 0x02 is clean start, 0x20 will retain (if there is a will).
    SetsConnectFlag(u8),
    /// Treats every CONNECT as one without this connect flag.
    ClearsConnectFlag(u8),
    /// Treats a lost connection as a normal disconnect: no will.
    LosesWills,
    /// Treats a normal disconnect as a lost connection: the will is sent.
    KeepsWills,
    /// Ignores this property in clients' packets of this type.
    IgnoresProperty(u8, u8),
    /// Flips these bits of the first byte of clients' packets of this type.
    ToFirstByte(u8, u8),
    /// Flips these bits of the options of a subscription.
    Options(u8),
    /// Treats the payload of a client's PUBLISH as empty.
    EmptiesPayloads,
    /// Handles clients' packets of this type twice.
    HandlesTwice(u8),
    /// Treats a topic that begins with `$` as an ordinary one.
    PlainDollars,
    /// Treats the topics of clients' messages as lower case.
    FoldsTopics,
    /// Treats shared subscriptions as ordinary ones.
    PlainShares,
    /// Sends QoS 1 and 2 messages as QoS 0.
    LowersQos,
    /// Sends Packet Identifier 1 in all packets of this type.
    SamePacketId(u8),
    /// Treats clients' packets with the one first byte as packets with the other.
    TreatsAs(u8, u8),
    /// Treats clients' packets of this type as if they had this property (identifier and value).
    AssumesProperty(u8, &'static [u8]),
    /// Treats the one options byte of a subscription as the other.
    TreatsOptionsAs(u8, u8),
    /// Treats an empty payload of a client's PUBLISH as one of a byte.
    FillsEmptyPayloads,
    /// Sends this property (identifier and value) in packets of this type, replacing an existing one.
    SendsProperty(u8, &'static [u8]),
    /// Sends this property once where it should occur several times.
    LosesRepeated(u8, u8),
    /// Sends two packets of this type in the wrong order.
    Swaps(u8),
    /// Acknowledges clients' publishing packets with this first byte, but ignores them otherwise.
    AcknowledgesAndIgnores(u8),
    /// Answers CONNECT itself, with this reason code and nothing after it.
    AnswersConnect(u8),
    /// Assigns the same client identifier to all clients without one.
    AssignsOneClientId,
    /// Treats every Will Delay Interval as 0.
    IgnoresWillDelay,
    /// Adds a Packet Identifier to PUBLISH of QoS 0.
    PacketIdWithQos0,
    /// Uses this one Packet Identifier for all PUBLISH packets.
    OnePacketId(u16),
    /// Gives a repeated PUBLISH another Packet Identifier.
    RenumbersRepeats,
    /// Omits the property length of packets of this type if there are no properties.
    LosesPropertyLength(u8),
    /// Encodes the property length of packets of this type with a needless byte.
    LongPropertyLength(u8),
    /// Strips U+FEFF from the topics that it sends.
    StripsByteOrderMark,
}

/// A Reason String of 100 letters, for `AddsProperty`.
pub(crate) const LONG_REASON_STRING: &[u8] = &long(&[0x1F, 0, 100]);
/// A User Property with a value of 97 letters, for `AddsProperty`.
pub(crate) const LONG_USER_PROPERTY: &[u8] = &long(&[0x26, 0, 1, b'k', 0, 97]);

/// The beginning of a property, filled up with letters to 103 bytes.
const fn long(head: &[u8]) -> [u8; 103] {
    let mut bytes = [b'x'; 103];
    let mut at = 0;
    while at < head.len() {
        bytes[at] = head[at];
        at += 1;
    }
    bytes
}

/// The result of applying a fault to a packet.
pub(crate) enum Fate {
    /// These packets are forwarded instead.
    Packets(Vec<RawPacket>),
    /// This packet is forwarded after the next packet of the same direction.
    After(RawPacket),
    /// These packets are returned to the sender.
    Back(Vec<RawPacket>),
    /// The connection is closed.
    Close,
}

impl Fault {
    /// Applies the fault to a packet from the broker.
    pub(crate) fn to_client(self, version: Version, packet: RawPacket) -> Fate {
        let kind = packet.kind();
        let changed = match self {
            Self::Loses(lost) if lost == kind => return Fate::Packets(Vec::new()),
            Self::Doubles(doubled) if doubled == kind => {
                return Fate::Packets(vec![packet.clone(), packet]);
            }
            Self::SendsBeforeConnack(bytes) if kind == CONNACK => {
                let early = RawPacket::take(&mut bytes.to_vec()).expect("a fault names a whole packet");
                return Fate::Packets(vec![early, packet]);
            }
            // A close that does not happen has no DISCONNECT either.
            Self::StaysOpen if kind == DISCONNECT => return Fate::Packets(Vec::new()),
            Self::OtherReason(of) if of == kind => other_reason(version, packet, None),
            Self::Reason(of, reason) if of == kind => other_reason(version, packet, Some(reason)),
            Self::OtherPacketId(of) if of == kind => other_packet_id(packet),
            Self::FirstByte(of, bits) if of == kind => {
                RawPacket { first_byte: packet.first_byte ^ bits, ..packet }
            }
            Self::ConnackFlags(bits) if kind == CONNACK => flip(packet, 0, bits),
            Self::OtherTopic if kind == PUBLISH => {
                let last = 1 + packet.length_at(0).unwrap_or(1);
                flip(packet, last, 0x01)
            }
            Self::OtherPayload if kind == PUBLISH => other_payload(version, packet),
            Self::DowngradesPublishes if kind == PUBLISH => downgraded(packet),
            Self::SwapsPublishes if kind == PUBLISH => return Fate::After(packet),
            Self::LowersQos if kind == PUBLISH => at_most_once(packet),
            Self::SamePacketId(of) if of == kind => same_packet_id(packet),
            Self::Swaps(of) if of == kind => return Fate::After(packet),
            Self::LosesProperty(of, id) if of == kind => without(version, &packet, id),
            Self::AddsProperty(of, property) if of == kind => {
                let mut properties = packet.properties(version).unwrap_or_default();
                properties.push((property[0], property.to_vec()));
                packet.with_properties(version, &properties)
            }
            Self::SendsProperty(of, property) if of == kind => with(version, &packet, property),
            Self::LosesRepeated(of, id) if of == kind => {
                let mut properties = packet.properties(version).unwrap_or_default();
                let mut seen = false;
                properties.retain(|(found, _)| *found != id || !std::mem::replace(&mut seen, true));
                packet.with_properties(version, &properties)
            }
            Self::ChangesProperty(of, id) if of == kind => changed_property(version, &packet, id),
            Self::ReversesProperties(of) if of == kind => {
                let mut properties = packet.properties(version).unwrap_or_default();
                properties.reverse();
                packet.with_properties(version, &properties)
            }
            Self::ReversesReasons(of) if of == kind => reversed_reasons(version, packet),
            Self::LosesReason(of) if of == kind => {
                let mut packet = packet;
                packet.body.pop();
                packet
            }
            Self::PacketIdWithQos0 if kind == PUBLISH && packet.qos() == 0 => with_packet_id(packet),
            Self::OnePacketId(id) if kind == PUBLISH => numbered(packet, id),
            Self::RenumbersRepeats if kind == PUBLISH && packet.first_byte & 0x08 != 0 => {
                other_packet_id(packet)
            }
            Self::LosesPropertyLength(of) if of == kind => without_property_length(version, packet),
            Self::LongPropertyLength(of) if of == kind => with_long_property_length(version, packet),
            Self::StripsByteOrderMark if kind == PUBLISH => without_byte_order_mark(packet),
            _ => packet,
        };
        Fate::Packets(vec![changed])
    }

    /// Applies the fault to a packet from the client.
    pub(crate) fn to_broker(self, version: Version, packet: RawPacket, connections: u64) -> Fate {
        let kind = packet.kind();
        let changed = match self {
            Self::ClosesOn(at) if at == kind => return Fate::Close,
            Self::Ignores(ignored) if ignored == kind => return Fate::Packets(Vec::new()),
            Self::KeepsWills if kind == DISCONNECT => return Fate::Close,
            Self::KeepsSubscriptions if kind == UNSUBSCRIBE => {
                return Fate::Back(vec![unsuback(version, &packet)]);
            }
            Self::ForgetsClients if kind == CONNECT => renamed(version, packet, connections),
            Self::SetsConnectFlag(bit) if kind == CONNECT => {
                let fits = |flags: u8| bit & WILL_BITS == 0 || flags & WILL_FLAG != 0;
                let set = packet.body.get(7).map_or(0, |flags| if fits(*flags) { bit & !flags } else { 0 });
                flip(packet, 7, set)
            }
            Self::ClearsConnectFlag(bit) if kind == CONNECT => {
                let set = packet.body.get(7).map_or(0, |flags| bit & flags);
                flip(packet, 7, set)
            }
            Self::IgnoresProperty(of, id) if of == kind => without(version, &packet, id),
            Self::ToFirstByte(of, bits) if of == kind => {
                RawPacket { first_byte: packet.first_byte ^ bits, ..packet }
            }
            Self::Options(bits) if kind == SUBSCRIBE => {
                let last = packet.body.len() - 1;
                flip(packet, last, bits)
            }
            Self::TreatsOptionsAs(one, other) if kind == SUBSCRIBE && packet.body.last() == Some(&one) => {
                let last = packet.body.len() - 1;
                flip(packet, last, one ^ other)
            }
            Self::EmptiesPayloads if kind == PUBLISH => {
                let at = packet.payload_at(version).unwrap_or(packet.body.len());
                let mut packet = packet;
                packet.body.truncate(at);
                packet
            }
            Self::HandlesTwice(of) if of == kind => return Fate::Packets(vec![packet.clone(), packet]),
            Self::PlainDollars if kind == PUBLISH && packet.body.get(2) == Some(&b'$') => {
                // Any other character will do.
                flip(packet, 2, 0x01)
            }
            Self::FoldsTopics if kind == PUBLISH => {
                let end = 2 + packet.length_at(0).unwrap_or(0);
                let mut packet = packet;
                packet.body[2..end].make_ascii_lowercase();
                packet
            }
            Self::PlainShares if kind == SUBSCRIBE => unshared(version, packet),
            Self::TreatsAs(one, other) if one == packet.first_byte => {
                RawPacket { first_byte: other, ..packet }
            }
            Self::AssumesProperty(of, property) if of == kind => with(version, &packet, property),
            Self::FillsEmptyPayloads
                if kind == PUBLISH && packet.payload_at(version) == Some(packet.body.len()) =>
            {
                other_payload(version, packet)
            }
            Self::AcknowledgesAndIgnores(first_byte) if first_byte == packet.first_byte => {
                return Fate::Back(vec![acknowledged(&packet)]);
            }
            Self::AnswersConnect(reason) if kind == CONNECT => {
                let properties: &[u8] = if version.is_v5() { &[0] } else { &[] };
                let body = [&[0, reason], properties].concat();
                return Fate::Back(vec![RawPacket { first_byte: CONNACK << 4, body }]);
            }
            Self::AssignsOneClientId if kind == CONNECT => named(version, packet),
            Self::IgnoresWillDelay if kind == CONNECT => without_will_delay(version, packet),
            _ => packet,
        };
        Fate::Packets(vec![changed])
    }

    /// Whether the end of the client's stream reaches the broker as a DISCONNECT.
    pub(crate) fn ends_with_disconnect(self) -> bool {
        self == Self::LosesWills
    }

    /// Whether the broker's close is forwarded to the client.
    pub(crate) fn forwards_close(self) -> bool {
        self != Self::StaysOpen
    }
}

fn flip(mut packet: RawPacket, at: usize, bits: u8) -> RawPacket {
    if let Some(byte) = packet.body.get_mut(at) {
        *byte ^= bits;
    }
    packet
}

fn other_reason(version: Version, mut packet: RawPacket, reason: Option<u8>) -> RawPacket {
    let failure = match packet.kind() {
        CONNACK if !version.is_v5() => 5,
        // Unspecified error; for SUBACK of 3.1.1 its only failure code.
        _ => 0x80,
    };
    if version.is_v5() && matches!(packet.kind(), PUBACK..=PUBCOMP) && packet.body.len() == 2 {
        packet.body.push(0);
    }
    if packet.kind() == DISCONNECT && packet.body.is_empty() {
        packet.body.push(0);
    }
    if let Some(at) = packet.reason_at(version) {
        let was_success = packet.body[at] < 0x80 && !(packet.kind() == CONNACK && packet.body[at] != 0);
        packet.body[at] = reason.unwrap_or(if was_success { failure } else { 0 });
    }
    packet
}

fn other_packet_id(mut packet: RawPacket) -> RawPacket {
    if let (Some(at), Some(id)) = (packet.packet_id_at(), packet.packet_id()) {
        let other = u16::from_be_bytes(id).wrapping_add(1).max(1);
        packet.body[at..at + 2].copy_from_slice(&other.to_be_bytes());
    }
    packet
}

fn same_packet_id(mut packet: RawPacket) -> RawPacket {
    if let Some(at) = packet.packet_id_at() {
        packet.body[at..at + 2].copy_from_slice(&[0, 1]);
    }
    packet
}

/// The PUBLISH with QoS 0: without a Packet Identifier and without DUP.
fn at_most_once(mut packet: RawPacket) -> RawPacket {
    if let Some(at) = packet.packet_id_at() {
        packet.body.drain(at..at + 2);
    }
    packet.first_byte &= !0x0E;
    packet
}

/// The acknowledgement of a QoS 1 or 2 packet, with success.
fn acknowledged(packet: &RawPacket) -> RawPacket {
    let first_byte = match (packet.kind(), packet.qos()) {
        (PUBLISH, 1) => PUBACK << 4,
        (PUBLISH, _) => PUBREC << 4,
        (PUBREC, _) => PUBREL << 4 | 0x02,
        _ => PUBCOMP << 4,
    };
    RawPacket { first_byte, body: packet.packet_id().expect("it has one").to_vec() }
}

fn other_payload(version: Version, mut packet: RawPacket) -> RawPacket {
    match packet.payload_at(version) {
        Some(at) if at < packet.body.len() => flip(packet, at, 0x01),
        _ => {
            packet.body.push(b'!');
            packet
        }
    }
}

fn downgraded(mut packet: RawPacket) -> RawPacket {
    if let Some(at) = packet.packet_id_at() {
        packet.body.drain(at..at + 2);
        // QoS and DUP.
        packet.first_byte &= !0x0E;
    }
    packet
}

/// The SUBSCRIBE with the plain filter instead of `$share/name/filter`, if that is its first one.
fn unshared(version: Version, mut packet: RawPacket) -> RawPacket {
    const PREFIX: &[u8] = b"$share/";
    // A test's shared subscriptions have no properties: their length is one byte.
    let at = if version.is_v5() { 3 } else { 2 };
    let Some(length) = packet.length_at(at) else { return packet };
    let Some(filter) = packet.body.get(at + 2..at + 2 + length) else { return packet };
    let Some(share) = filter.strip_prefix(PREFIX) else { return packet };
    let Some(name) = share.iter().position(|byte| *byte == b'/') else { return packet };
    let filter = share[name + 1..].to_vec();
    let short = u16::try_from(filter.len()).expect("it was longer before").to_be_bytes();
    packet.body.splice(at..at + 2 + length, [&short[..], &filter].concat());
    packet
}

fn without(version: Version, packet: &RawPacket, id: u8) -> RawPacket {
    let mut properties = packet.properties(version).unwrap_or_default();
    properties.retain(|(found, _)| *found != id);
    packet.with_properties(version, &properties)
}

/// The packet with this property, replacing an existing one.
fn with(version: Version, packet: &RawPacket, property: &[u8]) -> RawPacket {
    let mut properties = packet.properties(version).unwrap_or_default();
    properties.retain(|(id, _)| *id != property[0]);
    properties.push((property[0], property.to_vec()));
    packet.with_properties(version, &properties)
}

fn changed_property(version: Version, packet: &RawPacket, id: u8) -> RawPacket {
    let mut properties = packet.properties(version).unwrap_or_default();
    if let Some((_, bytes)) = properties.iter_mut().find(|(found, _)| *found == id) {
        *bytes.last_mut().expect("a property has its identifier") ^= 0x01;
    }
    packet.with_properties(version, &properties)
}

fn reversed_reasons(version: Version, mut packet: RawPacket) -> RawPacket {
    if let Some(at) = packet.reason_at(version) {
        packet.body[at..].reverse();
    }
    packet
}

/// Success for each filter of the packet.
fn unsuback(version: Version, packet: &RawPacket) -> RawPacket {
    let mut body = packet.packet_id().expect("UNSUBSCRIBE has one").to_vec();
    if version.is_v5() {
        body.push(0);
        // A test's UNSUBSCRIBE has no properties, so their length is one byte.
        let mut at = 3;
        while let Some(length) = packet.length_at(at) {
            body.push(0);
            at += 2 + length;
        }
    }
    RawPacket { first_byte: UNSUBACK << 4, body }
}

fn numbered(mut packet: RawPacket, id: u16) -> RawPacket {
    if let Some(at) = packet.packet_id_at() {
        packet.body[at..at + 2].copy_from_slice(&id.to_be_bytes());
    }
    packet
}

fn with_packet_id(mut packet: RawPacket) -> RawPacket {
    let at = 2 + packet.length_at(0).unwrap_or(0);
    packet.body.splice(at..at, [0, 1]);
    packet
}

fn without_property_length(version: Version, mut packet: RawPacket) -> RawPacket {
    if let Some((at, 1)) = packet.property_block(version) {
        packet.body.remove(at);
    }
    packet
}

/// Only for blocks with a length of one byte.
fn with_long_property_length(version: Version, mut packet: RawPacket) -> RawPacket {
    if let Some((at, 1..128)) = packet.property_block(version) {
        packet.body[at] |= 0x80;
        packet.body.insert(at + 1, 0);
    }
    packet
}

fn without_byte_order_mark(mut packet: RawPacket) -> RawPacket {
    let length = packet.length_at(0).unwrap_or(0);
    let topic = String::from_utf8_lossy(&packet.body[2..2 + length]).replace('\u{feff}', "");
    packet.body.splice(2..2 + length, topic.bytes());
    packet.body[..2].copy_from_slice(&u16::try_from(topic.len()).expect("it got shorter").to_be_bytes());
    packet
}

/// Position of the client identifier in a CONNECT.
fn client_id_at(version: Version, packet: &RawPacket) -> usize {
    10 + packet.property_block(version).map_or(0, |(_, bytes)| bytes)
}

fn named(version: Version, mut packet: RawPacket) -> RawPacket {
    let at = client_id_at(version, &packet);
    if packet.length_at(at) == Some(0) {
        let name = b"nobody";
        packet.body.splice(at..at + 2, [0, 6].into_iter().chain(*name));
    }
    packet
}

fn without_will_delay(version: Version, mut packet: RawPacket) -> RawPacket {
    const DELAY: u8 = 0x18;
    let at = client_id_at(version, &packet);
    let start = at + 2 + packet.length_at(at).unwrap_or(0);
    // A test's will has no other property before its delay: length, identifier, four bytes.
    let has_will = packet.body.get(7).is_some_and(|flags| flags & WILL_FLAG != 0);
    if has_will && version.is_v5() && packet.body.get(start + 1) == Some(&DELAY) {
        packet.body[start + 2..start + 6].fill(0);
    }
    packet
}

/// The CONNECT with a client identifier of its own.
fn renamed(version: Version, packet: RawPacket, number: u64) -> RawPacket {
    let at = client_id_at(version, &packet);
    let Some(length) = packet.length_at(at) else { return packet };
    let Some(name) = packet.body.get(at + 2..at + 2 + length) else { return packet };
    let mut other = name.to_vec();
    other.extend(format!("n{number}").bytes());
    let mut body = packet.body[..at].to_vec();
    body.extend(u16::try_from(other.len()).expect("a test's name is short").to_be_bytes());
    body.extend(&other);
    body.extend(&packet.body[at + 2 + length..]);
    RawPacket { first_byte: packet.first_byte, body }
}
