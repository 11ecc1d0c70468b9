//! Arbitrary bytes in arbitrary pieces give a packet, an error or "incomplete", and never a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::{Assembler, Frame, Malformed, Packet, ProtocolVersion};

use crate::recipe::{any_recipe, short_recipe};
use crate::{PACKET_BYTES_MAX, VERSIONS, decode, encode};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_strict_prefix_is_incomplete(recipe in any_recipe()) {
        let bytes = recipe.with_packet(|packet| encode(recipe.version, &packet));
        check_byte_by_byte(&bytes);
        // Every cut of a short packet; for a long one, cuts near both ends and some between.
        let cuts = (1..bytes.len()).filter(|cut| *cut < 200 || bytes.len() - cut < 10 || cut % 997 == 0);
        for cut in cuts {
            let (mut first, mut second) = bytes.split_at(cut);
            let mut assembler = Assembler::new();
            assert_eq!(assembler.next(&mut first, PACKET_BYTES_MAX), Ok(None));
            assert!(first.is_empty() && !assembler.is_idle());
            let frame = assembler.next(&mut second, PACKET_BYTES_MAX).unwrap().expect("the packet is complete");
            assert_eq!(frame.packet_bytes(), bytes.len());
            assert_eq!(frame.body, &bytes[bytes.len() - frame.body.len()..]);
        }
    }

    #[test]
    fn a_stream_gives_the_same_packets_however_it_is_cut(
        recipes in vec(short_recipe(), 1..8),
        pieces in vec(1_usize..90, 1..40),
    ) {
        let packets: Vec<_> =
            recipes.iter().map(|recipe| recipe.with_packet(|packet| encode(recipe.version, &packet))).collect();
        let stream = packets.concat();
        let mut assembler = Assembler::new();
        let mut seen = 0;
        let mut rest = &stream[..];
        for piece_bytes in pieces.iter().cycle() {
            let (mut piece, next) = rest.split_at(rest.len().min(*piece_bytes));
            rest = next;
            while let Some(frame) = assembler.next(&mut piece, PACKET_BYTES_MAX).unwrap() {
                assert_eq!(frame.packet_bytes(), packets[seen].len());
                assert_eq!((frame.first_byte, frame.body), (packets[seen][0], body(&packets[seen])));
                seen += 1;
            }
            assert!(piece.is_empty());
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(seen, packets.len());
        assert!(assembler.is_idle() && assembler.buffered_bytes() == 0);
    }

    #[test]
    fn every_flipped_byte_is_a_packet_or_a_clean_refusal(recipe in short_recipe()) {
        let mut bytes = recipe.with_packet(|packet| encode(recipe.version, &packet));
        for index in 0..bytes.len() {
            for flip in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF] {
                bytes[index] ^= flip;
                check_stream(recipe.version, &bytes);
                bytes[index] ^= flip;
            }
        }
    }

    #[test]
    fn every_body_cut_short_is_a_packet_or_a_clean_refusal(recipe in short_recipe()) {
        let bytes = recipe.with_packet(|packet| encode(recipe.version, &packet));
        let whole = body(&bytes);
        for end in 0..whole.len() {
            check_frame(recipe.version, Frame { first_byte: bytes[0], body: &whole[..end] });
        }
        let longer = [whole, &[0]].concat();
        check_frame(recipe.version, Frame { first_byte: bytes[0], body: &longer });
    }

    #[test]
    fn a_packet_read_in_another_version_is_a_packet_or_a_clean_refusal(recipe in short_recipe()) {
        let bytes = recipe.with_packet(|packet| encode(recipe.version, &packet));
        for version in VERSIONS {
            check_stream(version, &bytes);
        }
    }

    #[test]
    fn any_bytes_are_packets_or_a_clean_refusal(stream in vec(any::<u8>(), 0..200), first_byte: u8) {
        for version in VERSIONS {
            check_stream(version, &stream);
            check_frame(version, Frame { first_byte, body: &stream });
        }
    }
}

fn check_byte_by_byte(bytes: &[u8]) {
    let mut assembler = Assembler::new();
    let (last, before) = bytes.split_last().expect("a packet has two bytes");
    for byte in before {
        assert_eq!(assembler.next(&mut &[*byte][..], PACKET_BYTES_MAX), Ok(None));
    }
    let mut last = &[*last][..];
    let frame = assembler.next(&mut last, PACKET_BYTES_MAX).unwrap().expect("the packet is complete");
    assert_eq!((frame.first_byte, frame.body), (bytes[0], body(bytes)));
    assert!(assembler.is_idle());
}

/// The bytes after the fixed header.
fn body(packet: &[u8]) -> &[u8] {
    let length_bytes = packet[1..].iter().position(|byte| byte & 0x80 == 0).expect("the length ends") + 1;
    &packet[1 + length_bytes..]
}

fn check_stream(version: ProtocolVersion, mut stream: &[u8]) {
    let mut assembler = Assembler::new();
    loop {
        match assembler.next(&mut stream, PACKET_BYTES_MAX) {
            Ok(Some(frame)) => check_frame(version, frame),
            Ok(None) => {
                assert!(stream.is_empty());
                return;
            }
            Err(refusal) => {
                check_refusal(refusal);
                break;
            }
        }
    }
    // Callers should stop after an error. If they do not, they get nonsense but no panic.
    while let Ok(Some(frame)) = assembler.next(&mut stream, PACKET_BYTES_MAX) {
        check_frame(version, frame);
    }
}

/// Checks that a frame gives an error or a packet. A packet can be iterated, and encoding and decoding it again gives the
/// same.
fn check_frame(version: ProtocolVersion, frame: Frame<'_>) {
    match Packet::decode(version, frame) {
        Ok(packet) => {
            assert!(!format!("{packet:?}").is_empty());
            let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
            decode(version, &encode(version, &packet), |again| assert_eq!(again, Ok(packet)));
        }
        Err(refusal) => check_refusal(refusal),
    }
}

fn check_refusal(refusal: Malformed) {
    assert!(refusal.reason().is_error() && !refusal.to_string().is_empty());
}
