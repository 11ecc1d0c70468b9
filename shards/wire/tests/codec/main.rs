//! The codec's public interface: encoding, decoding, refusals, and that no input makes it panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "the property tests' macros share strategies through Arc")]

mod layout;
mod properties;
mod reasons;
mod recipe;
mod refusals;
mod robustness;
mod round_trip;

use wire::{Assembler, Malformed, Packet, ProtocolVersion};

const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// Large enough for every packet of these tests.
const PACKET_BYTES_MAX: u32 = 1_000_000;

/// The encoded packet.
fn encode(version: ProtocolVersion, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

/// Decodes the one packet that `bytes` must be, and passes the result to `look`.
fn decode<R>(
    version: ProtocolVersion,
    mut bytes: &[u8],
    look: impl FnOnce(Result<Packet<'_>, Malformed>) -> R,
) -> R {
    let mut assembler = Assembler::new();
    match assembler.next(&mut bytes, PACKET_BYTES_MAX) {
        Ok(Some(frame)) => {
            assert!(bytes.is_empty(), "{} bytes follow the packet", bytes.len());
            look(Packet::decode(version, frame))
        }
        Ok(None) => panic!("the packet is incomplete"),
        Err(refusal) => look(Err(refusal)),
    }
}

/// A packet from its first byte and its body, whose length must fit in one byte.
fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "a body of {} bytes needs a longer length", body.len());
    [&[first_byte, body.len().to_le_bytes()[0]], body].concat()
}
