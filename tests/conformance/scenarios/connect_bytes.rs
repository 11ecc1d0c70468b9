//! CONNECT byte by byte, and the allowed reactions to invalid bytes. The scenarios define the error and the allowed
//! reason codes.

use crate::harness::packet::{packet, variable_byte_integer};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::target::Target;

pub(crate) const CLEAN: u8 = 0x02;
pub(crate) const WILL: u8 = 0x04;
pub(crate) const PASSWORD: u8 = 0x40;
pub(crate) const USER_NAME: u8 = 0x80;

const UNSPECIFIED_ERROR: u8 = 0x80;
/// Reason codes allowed for a packet that cannot be parsed. The broker may also close without one.
pub(crate) const MALFORMED: &[u8] = &[0x81];
/// If the standard does not decide between the two.
pub(crate) const MALFORMED_OR_PROTOCOL_ERROR: &[u8] = &[0x81, 0x82];

/// A CONNECT with a clean session. Each call adds a field to its payload.
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
    /// Without a payload: the client identifier is added like any other field.
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

    /// With a unique client identifier.
    pub(crate) fn of(on: &Target) -> Self {
        Self::new(on).field(on.name("a").as_bytes())
    }

    pub(crate) fn flag(mut self, bits: u8) -> Self {
        self.flags |= bits;
        self
    }

    /// Adds a two-byte length and these bytes.
    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        self.payload.extend(field(bytes));
        self
    }

    /// Adds these bytes unchanged.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.payload.extend(bytes);
        self
    }

    pub(crate) fn properties(mut self, bytes: &[u8]) -> Self {
        self.properties.extend(bytes);
        self
    }

    /// Adds the properties of a will, if the version has properties.
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

/// A property block: the length and these properties.
pub(crate) fn block(properties: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    variable_byte_integer(u32::try_from(properties.len()).expect("a test's properties are short"), &mut out);
    out.extend(properties);
    out
}

/// A property with text or binary data.
pub(crate) fn property(id: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![id], field(bytes)].concat()
}

/// Sends an invalid CONNECT: the broker closes, in version 5 optionally after a CONNACK with one of these reason codes.
pub(crate) fn is_refused(on: &Target, what: &str, bytes: &[u8], reasons: &[u8]) {
    let mut peer = on.open();
    peer.send_ignoring_errors(bytes);
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

/// Sends bytes that end a connection; in version 5 a DISCONNECT may carry one of these reason codes.
pub(crate) fn closes(on: &Target, peer: &mut Peer, what: &str, bytes: &[u8], reasons: &[u8]) {
    peer.send_ignoring_errors(bytes);
    let sent = peer.await_close();
    let is_allowed = sent.is_none_or(|reason| reason == UNSPECIFIED_ERROR || reasons.contains(&reason));
    assert!(is_allowed, "{what}: DISCONNECT has reason code {sent:#04x?}");
    assert!(sent.is_none() || on.version.is_v5(), "{what}: only version 5 has reason codes");
}
