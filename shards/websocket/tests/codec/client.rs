//! A client's half, written for these tests by the letter of RFC 6455: frames to masked bytes, and a server's bytes to frames.

use proptest::collection::vec;
use proptest::prelude::*;

/// The types of frames.
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A frame in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) is_last: bool,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, payload: &[u8]) -> Self {
        Self { kind, is_last: true, payload: payload.to_vec() }
    }

    /// As a client sends it.
    pub(crate) fn masked(&self, mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.is_last) << 7 | self.kind];
        let length = self.payload.len();
        if length < 126 {
            bytes.push(0x80 | u8::try_from(length).unwrap());
        } else if let Ok(length) = u16::try_from(length) {
            bytes.push(0xfe);
            bytes.extend(length.to_be_bytes());
        } else {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
        bytes.extend(mask);
        bytes.extend(self.payload.iter().enumerate().map(|(place, byte)| byte ^ mask[place % 4]));
        bytes
    }
}

/// Reads a server's frames; the last may be incomplete, and is returned as what is left.
pub(crate) fn read(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    loop {
        let [first, second, rest @ ..] = bytes else { return (frames, bytes) };
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        assert_eq!(first & 0x70, 0, "no extension was agreed upon");
        let length_bytes = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if rest.len() < length_bytes {
            return (frames, bytes);
        }
        let (length, rest) = rest.split_at(length_bytes);
        let length = if length.is_empty() {
            u64::from(*second)
        } else {
            length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let length = usize::try_from(length).unwrap();
        if rest.len() < length {
            return (frames, bytes);
        }
        let (payload, rest) = rest.split_at(length);
        frames.push(Frame { kind: first & 0x0f, is_last: first & 0x80 != 0, payload: payload.to_vec() });
        bytes = rest;
    }
}

/// The bytes of a client: messages of binary data in fragments, with pings and pongs between them.
pub(crate) fn conversation() -> impl Strategy<Value = Vec<(Frame, [u8; 4])>> {
    let control = (prop::sample::select(&[PING, PONG]), vec(any::<u8>(), 0..=125))
        .prop_map(|(kind, payload)| Frame { kind, is_last: true, payload });
    let message = (vec((payload(), vec(control, 0..2)), 1..4)).prop_map(|fragments| {
        let count = fragments.len();
        let mut frames = Vec::new();
        for (place, (payload, controls)) in fragments.into_iter().enumerate() {
            let kind = if place == 0 { BINARY } else { CONTINUATION };
            frames.push(Frame { kind, is_last: place + 1 == count, payload });
            frames.extend(controls);
        }
        frames
    });
    vec(message, 0..5)
        .prop_map(|messages: Vec<Vec<Frame>>| messages.concat())
        .prop_flat_map(|frames| {
            let count = frames.len();
            (Just(frames), vec(any::<[u8; 4]>(), count..=count))
        })
        .prop_map(|(frames, masks)| frames.into_iter().zip(masks).collect())
}

/// Payload, with lengths on both sides of each form of the header.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![40 => 0_usize..10, 20 => 110_usize..140, 1 => 65_500_usize..65_600];
    (length, any::<u8>()).prop_map(|(length, seed)| pattern(length, seed))
}

/// Bytes in which each place shows. proptest needs seconds to draw and shrink as many one by one.
pub(crate) fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|place| (place % 251).to_le_bytes()[0] ^ seed).collect()
}
