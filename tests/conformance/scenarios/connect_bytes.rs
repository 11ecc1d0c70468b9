//! CONNECT byte by byte, and what may become of a connection whose bytes are not in order.
//! Knows no statement: what is wrong, and which reasons may be told, the scenarios say.

use crate::harness::packet::{packet, variable_byte_integer};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::target::Target;

pub(crate) const CLEAN: u8 = 0x02;
pub(crate) const WILL: u8 = 0x04;
pub(crate) const PASSWORD: u8 = 0x40;
pub(crate) const USER_NAME: u8 = 0x80;

const UNSPECIFIED_ERROR: u8 = 0x80;
/// What may be told about a packet that cannot be read: that, or that nothing is told.
pub(crate) const MALFORMED: &[u8] = &[0x81];
/// Where the standard does not say which of the two it is.
pub(crate) const MALFORMED_OR_PROTOCOL_ERROR: &[u8] = &[0x81, 0x82];

/// A CONNECT with a clean session; the fields of its payload are added in the order of the calls.
#[derive(Clone)]
pub(crate) struct ConnectBytes {
    pub(crate) name: Vec<u8>,
    pub(crate) level: u8,
    pub(crate) flags: u8,
    pub(crate) properties: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    has_properties: bool,
}

impl ConnectBytes {
    /// Without a payload: the client identifier is a field as others are.
    pub(crate) fn new(on: &Target) -> Self {
        let has_properties = on.version.is_v5();
        Self {
            name: b"MQTT".to_vec(),
            level: if has_properties { 5 } else { 4 },
            flags: CLEAN,
            properties: Vec::new(),
            payload: Vec::new(),
            has_properties,
        }
    }

    /// With a client identifier that nobody else has.
    pub(crate) fn of(on: &Target) -> Self {
        Self::new(on).field(on.name("a").as_bytes())
    }

    pub(crate) fn flag(mut self, bits: u8) -> Self {
        self.flags |= bits;
        self
    }

    /// Two bytes of length, and these.
    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        self.payload.extend(field(bytes));
        self
    }

    /// These, as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.payload.extend(bytes);
        self
    }

    pub(crate) fn properties(mut self, bytes: &[u8]) -> Self {
        self.properties.extend(bytes);
        self
    }

    /// The properties of a will, where the version has any.
    pub(crate) fn will_properties(mut self, bytes: &[u8]) -> Self {
        if self.has_properties {
            self.payload.extend(block(bytes));
        }
        self
    }

    pub(crate) fn without_properties(mut self) -> Self {
        self.has_properties = false;
        self
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let properties = if self.has_properties { block(&self.properties) } else { Vec::new() };
        let fixed = [self.level, self.flags, 0, 60];
        [field(&self.name), fixed.to_vec(), properties, self.payload.clone()].concat()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        packet(0x10, &self.body())
    }
}

pub(crate) fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a test's field is shorter than 64 KiB");
    [&length.to_be_bytes(), bytes].concat()
}

/// A property block: its length, and these.
pub(crate) fn block(properties: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    variable_byte_integer(u32::try_from(properties.len()).expect("a test's properties are short"), &mut out);
    out.extend(properties);
    out
}

/// A property with a text or with binary data.
pub(crate) fn property(id: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![id], field(bytes)].concat()
}

/// Sends what is no CONNECT in order: nothing but the end may follow, and in version 5 a CONNACK with one of these reasons
/// before it.
pub(crate) fn is_refused(on: &Target, what: &str, bytes: &[u8], reasons: &[u8]) {
    let mut peer = on.open();
    peer.send_whatever_happens(bytes);
    match peer.next_or_close() {
        None => {}
        Some(Received::ConnAck { session_present: false, reason, .. })
            if on.version.is_v5() && (reason == UNSPECIFIED_ERROR || reasons.contains(&reason)) =>
        {
            peer.await_close();
        }
        Some(other) => panic!("{what}: answered with {other:?}"),
    }
}

/// Sends what ends a connection: in version 5 one of these reasons may be told.
pub(crate) fn closes(on: &Target, peer: &mut Peer, what: &str, bytes: &[u8], reasons: &[u8]) {
    peer.send_whatever_happens(bytes);
    let told = peer.await_close();
    let is_allowed = told.is_none_or(|reason| reason == UNSPECIFIED_ERROR || reasons.contains(&reason));
    assert!(is_allowed, "{what}: told {told:#04x?}");
    assert!(told.is_none() || on.version.is_v5(), "{what}: only version 5 is told a reason");
}
