//! The codec with arbitrary bytes in arbitrary pieces. It never panics, its result does not depend on how the bytes are
//! cut, it uses no more memory than promised, and a decoded packet can be encoded and decoded again.

use wire::{Assembler, Frame, Malformed, Packet, ProtocolVersion};

use crate::choices::Choices;

pub(crate) const VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// Maximum packet sizes, one of them for each input; small ones are reached soonest.
const PACKET_BYTES_MAX: [u32; 4] = [64, 1_024, 70_000, wire::PACKET_BYTES_MAX];

/// The most that `Assembler` promises to keep for short packets.
const BUFFER_BYTES_KEPT: usize = 8 * 1024;

/// The result of a stream: its frames, and the error that ended it.
type Assembled = (Vec<(u8, Vec<u8>)>, Option<Malformed>);

/// The first bytes choose the limit and the pieces, the rest is the stream.
///
/// # Panics
/// If the codec violates a guarantee.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let packet_bytes_max = choices.pick(&PACKET_BYTES_MAX);
    let pieces = [choices.byte(), choices.byte(), choices.byte()].map(|byte| usize::from(byte) + 1);
    let stream = choices.bytes(usize::MAX);

    let whole = assemble(stream, &[stream.len().max(1)], packet_bytes_max);
    assert_eq!(assemble(stream, &pieces, packet_bytes_max), whole, "cut into pieces of {pieces:?}");
    assert_eq!(assemble(stream, &[1], packet_bytes_max), whole, "cut into bytes");
    for (first_byte, body) in &whole.0 {
        for version in VERSIONS {
            check_frame(version, Frame { first_byte: *first_byte, body });
        }
    }
    if let Some(refusal) = whole.1 {
        check_refusal(refusal);
    }
}

fn assemble(stream: &[u8], pieces: &[usize], packet_bytes_max: u32) -> Assembled {
    let mut assembler = Assembler::new();
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut arrived_bytes = 0;
    for piece_bytes in pieces.iter().cycle() {
        let (mut piece, next) = rest.split_at(rest.len().min(*piece_bytes));
        rest = next;
        arrived_bytes += piece.len();
        loop {
            match assembler.next(&mut piece, packet_bytes_max) {
                Ok(Some(frame)) => {
                    assert!(frame.packet_bytes() <= packet_bytes_max as usize);
                    frames.push((frame.first_byte, frame.body.to_vec()));
                }
                Ok(None) => break,
                Err(refusal) => return (frames, Some(refusal)),
            }
        }
        assert!(piece.is_empty(), "all of a piece is taken");
        // No memory is allocated for an announced length or a limit before the bytes are there.
        let buffered_bytes = assembler.buffered_bytes();
        assert!(buffered_bytes <= packet_bytes_max as usize, "{buffered_bytes} bytes of {packet_bytes_max}");
        assert!(buffered_bytes <= (2 * arrived_bytes).max(BUFFER_BYTES_KEPT), "{buffered_bytes} bytes");
        assert!(!assembler.is_idle() || buffered_bytes == 0);
        if rest.is_empty() {
            break;
        }
    }
    (frames, None)
}

/// A decoded packet can be inspected and encodes to an equal packet; an error has a message.
fn check_frame(version: ProtocolVersion, frame: Frame<'_>) {
    let packet = match Packet::decode(version, frame) {
        Ok(packet) => packet,
        Err(refusal) => return check_refusal(refusal),
    };
    assert!(!format!("{packet:?}").is_empty());
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    let mut rest = &bytes[..];
    let mut assembler = Assembler::new();
    let again = assembler.next(&mut rest, wire::PACKET_BYTES_MAX).expect("our own packet has a header");
    let again = again.expect("our own packet is whole");
    assert_eq!(Packet::decode(version, again), Ok(packet));
    assert!(rest.is_empty());
    if let Packet::Publish(publish) = packet {
        check_forwarded(&publish);
    }
}

/// A PUBLISH forwards exactly its unaltered properties, whatever other properties stand between.
fn check_forwarded(publish: &wire::Publish<'_>) {
    let mut forwarded = Vec::new();
    publish.properties.append_forwardable(&mut forwarded);
    let parts = wire::PublishParts {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic.map_or("", wire::TopicName::as_str),
        packet_id: publish.packet_id,
        message_expiry_interval_s: publish.properties.message_expiry_interval_s,
        topic_alias: publish.properties.topic_alias,
        subscription_ids: &publish.properties.subscription_ids.iter().collect::<Vec<_>>(),
        forwarded: &forwarded,
        payload_bytes: publish.payload.len(),
    };
    let mut bytes = Vec::new();
    parts.encode_head(ProtocolVersion::V5, &mut bytes);
    bytes.extend_from_slice(publish.payload);
    assert_eq!(bytes.len(), parts.packet_bytes(ProtocolVersion::V5));
    let mut rest = &bytes[..];
    let mut assembler = Assembler::new();
    let frame =
        assembler.next(&mut rest, u32::MAX).expect("our own header").expect("our own packet is whole");
    assert_eq!(Packet::decode(ProtocolVersion::V5, frame), Ok(Packet::Publish(*publish)));
}

fn check_refusal(refusal: Malformed) {
    assert!(refusal.reason().is_error() && !refusal.to_string().is_empty());
}
