//! Packets of both directions as bytes, with their property block located, so that a proxy can damage them. Only valid
//! packets are parsed; others are forwarded unchanged.

#![allow(dead_code, reason = "all packet types are named, including those that no fault changes")]

use crate::harness::packet::{Version, packet, variable_byte_integer};

pub(crate) const CONNECT: u8 = 1;
pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;
pub(crate) const SUBSCRIBE: u8 = 8;
pub(crate) const SUBACK: u8 = 9;
pub(crate) const UNSUBSCRIBE: u8 = 10;
pub(crate) const UNSUBACK: u8 = 11;
pub(crate) const PINGREQ: u8 = 12;
pub(crate) const PINGRESP: u8 = 13;
pub(crate) const DISCONNECT: u8 = 14;
pub(crate) const AUTH: u8 = 15;

/// A packet: its first byte and the bytes after the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawPacket {
    pub(crate) first_byte: u8,
    pub(crate) body: Vec<u8>,
}

impl RawPacket {
    /// Removes the first complete packet from `bytes`. `None` if more bytes are needed or the length cannot be read.
    pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let (length, length_bytes) = read_length(bytes.get(1..)?)?;
        let start = 1 + length_bytes;
        let body = bytes.get(start..start + length)?.to_vec();
        let first_byte = bytes[0];
        bytes.drain(..start + length);
        Some(Self { first_byte, body })
    }

    /// Whether the next length is malformed, whatever bytes follow.
    pub(crate) fn has_no_length(bytes: &[u8]) -> bool {
        bytes.len() >= 5 && read_length(&bytes[1..]).is_none()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        packet(self.first_byte, &self.body)
    }

    pub(crate) fn kind(&self) -> u8 {
        self.first_byte >> 4
    }

    pub(crate) fn qos(&self) -> u8 {
        self.first_byte >> 1 & 3
    }

    /// Position of the Packet Identifier, if there is one.
    pub(crate) fn packet_id_at(&self) -> Option<usize> {
        match self.kind() {
            PUBLISH if self.qos() > 0 => Some(2 + self.length_at(0)?),
            PUBACK | PUBREC | PUBREL | PUBCOMP | SUBSCRIBE | SUBACK | UNSUBSCRIBE | UNSUBACK => Some(0),
            _ => None,
        }
    }

    pub(crate) fn packet_id(&self) -> Option<[u8; 2]> {
        let at = self.packet_id_at()?;
        self.body.get(at..at + 2)?.try_into().ok()
    }

    /// Position of the reason code or of the first one. Acknowledgements of success may have none.
    pub(crate) fn reason_at(&self, version: Version) -> Option<usize> {
        let at = match self.kind() {
            CONNACK => 1,
            PUBACK | PUBREC | PUBREL | PUBCOMP => 2,
            SUBACK | UNSUBACK => 2 + if version.is_v5() { self.block(version)?.bytes } else { 0 },
            DISCONNECT | AUTH => 0,
            _ => return None,
        };
        (at < self.body.len()).then_some(at)
    }

    /// The property block, including its length field.
    fn block(&self, version: Version) -> Option<Block> {
        if !version.is_v5() {
            return None;
        }
        let at = match self.kind() {
            CONNECT => 10,
            PUBLISH => 2 + self.length_at(0)? + if self.qos() > 0 { 2 } else { 0 },
            PUBACK | PUBREC | PUBREL | PUBCOMP => 3,
            CONNACK | SUBSCRIBE | SUBACK | UNSUBSCRIBE | UNSUBACK => 2,
            DISCONNECT | AUTH => 1,
            _ => return None,
        };
        let (length, length_bytes) = read_length(self.body.get(at..)?)?;
        (at + length_bytes + length <= self.body.len()).then_some(Block {
            at,
            start: at + length_bytes,
            bytes: length_bytes + length,
        })
    }

    /// Start of the property block, and its size including the length field.
    pub(crate) fn property_block(&self, version: Version) -> Option<(usize, usize)> {
        self.block(version).map(|block| (block.at, block.bytes))
    }

    /// The properties: identifier, and the bytes including the identifier.
    pub(crate) fn properties(&self, version: Version) -> Option<Vec<(u8, Vec<u8>)>> {
        let block = self.block(version)?;
        let mut rest = &self.body[block.start..block.at + block.bytes];
        let mut found = Vec::new();
        while let Some(&id) = rest.first() {
            let bytes = property_bytes(rest)?;
            found.push((id, rest.get(..bytes)?.to_vec()));
            rest = &rest[bytes..];
        }
        Some(found)
    }

    /// The packet with other properties; unchanged if it cannot have any. Acknowledgements without a reason code get one.
    pub(crate) fn with_properties(&self, version: Version, properties: &[(u8, Vec<u8>)]) -> Self {
        let mut whole = self.clone();
        if version.is_v5() {
            match (whole.kind(), whole.body.len()) {
                (PUBACK | PUBREC | PUBREL | PUBCOMP, 2) | (DISCONNECT | AUTH, 0) => whole.body.extend([0, 0]),
                (PUBACK | PUBREC | PUBREL | PUBCOMP, 3) | (DISCONNECT | AUTH, 1) => whole.body.push(0),
                _ => {}
            }
        }
        let Some(block) = whole.block(version) else { return whole };
        let bytes: Vec<u8> = properties.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let mut body = whole.body[..block.at].to_vec();
        variable_byte_integer(u32::try_from(bytes.len()).expect("a test's properties are short"), &mut body);
        body.extend(bytes);
        body.extend(&whole.body[block.at + block.bytes..]);
        Self { first_byte: whole.first_byte, body }
    }

    /// Start of the payload of a PUBLISH.
    pub(crate) fn payload_at(&self, version: Version) -> Option<usize> {
        let head = 2 + self.length_at(0)? + if self.qos() > 0 { 2 } else { 0 };
        Some(head + self.block(version).map_or(0, |block| block.bytes))
    }

    /// The 16-bit length at an offset of the body.
    pub(crate) fn length_at(&self, at: usize) -> Option<usize> {
        let bytes = self.body.get(at..at + 2)?;
        Some(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }
}

struct Block {
    /// Position of the length field.
    at: usize,
    /// Position of the first property.
    start: usize,
    /// Size of length field and properties.
    bytes: usize,
}

fn read_length(input: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Size of the first property of `input`, including its identifier.
fn property_bytes(input: &[u8]) -> Option<usize> {
    let text = |at: usize| {
        let bytes = input.get(at..at + 2)?;
        Some(at + 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    };
    match input.first()? {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Some(2),
        0x13 | 0x21 | 0x22 | 0x23 => Some(3),
        0x02 | 0x11 | 0x18 | 0x27 => Some(5),
        0x0B => read_length(&input[1..]).map(|(_, bytes)| 1 + bytes),
        0x26 => text(text(1)?),
        _ => text(1),
    }
}
