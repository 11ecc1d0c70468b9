//! All 256 reason codes in every packet, against the tables of the packets' own sections.

use wire::{Malformed, PacketType, ProtocolVersion};

use crate::{decode, packet};

const CONNACK: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];
const PUBACK: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL: &[u8] = &[0x00, 0x92];
const SUBACK: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const UNSUBACK: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
/// 0x8C is listed in table 2-6 only; it ends a re-authentication.
const DISCONNECT: &[u8] = &[
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
    0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
const AUTH: &[u8] = &[0x00, 0x18, 0x19];

/// Tries every code between `before` and `after`.
fn check(version: ProtocolVersion, packet_type: PacketType, before: &[u8], after: &[u8], allowed: &[u8]) {
    for code in 0..=u8::MAX {
        let bytes = packet(packet_type.first_byte(), &[before, &[code], after].concat());
        let expected =
            if allowed.contains(&code) { Ok(()) } else { Err(Malformed::ReasonCodeNotAllowed { code }) };
        decode(version, &bytes, |decoded| {
            assert_eq!(decoded.map(|_| ()), expected, "{version:?} {packet_type:?} {code:#04x}");
        });
    }
}

#[test]
fn version_5_packets_carry_the_reason_codes_of_their_tables() {
    let v5 = ProtocolVersion::V5;
    check(v5, PacketType::ConnAck, &[0], &[0], CONNACK);
    check(v5, PacketType::PubAck, &[0, 1], &[], PUBACK);
    check(v5, PacketType::PubAck, &[0, 1], &[0], PUBACK);
    check(v5, PacketType::PubRec, &[0, 1], &[], PUBACK);
    check(v5, PacketType::PubRel, &[0, 1], &[], PUBREL);
    check(v5, PacketType::PubComp, &[0, 1], &[0], PUBREL);
    check(v5, PacketType::SubAck, &[0, 1, 0], &[], SUBACK);
    check(v5, PacketType::SubAck, &[0, 1, 0, 2, 0x9E], &[0], SUBACK);
    check(v5, PacketType::UnsubAck, &[0, 1, 0], &[], UNSUBACK);
    check(v5, PacketType::Disconnect, &[], &[], DISCONNECT);
    check(v5, PacketType::Disconnect, &[], &[0], DISCONNECT);
    check(v5, PacketType::Auth, &[], &[4, 0x15, 0, 1, b'x'], AUTH);
}

#[test]
fn version_3_packets_carry_six_return_codes_and_one_failure_code() {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        check(version, PacketType::ConnAck, &[0], &[], &[0, 1, 2, 3, 4, 5]);
        check(version, PacketType::SubAck, &[0, 1], &[], &[0, 1, 2, 0x80]); // [MQTT-3.9.3-2]
    }
}
