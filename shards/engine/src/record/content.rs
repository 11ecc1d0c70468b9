//! The content of a message as its record has it.

use alloc::vec::Vec;

use wire::QoS;

use super::fields::{Fields, Malformed, put_bytes, put_number};
use crate::base::time::Instant;

const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const FLAGS_END: u8 = 1 << 4;

/// The parts of a message that its publisher gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Content<'a> {
    topic: &'a str,
    forwarded: &'a [u8],
    payload: &'a [u8],
    qos: QoS,
    retain: bool,
    expires_at: Option<Instant>,
}

impl<'a> Content<'a> {
    /// A topic, encoded properties, and a payload.
    pub(crate) const fn new(
        (topic, forwarded, payload): (&'a str, &'a [u8], &'a [u8]),
        (qos, retain): (QoS, bool),
        expires_at: Option<Instant>,
    ) -> Self {
        Self { topic, forwarded, payload, qos, retain, expires_at }
    }

    /// Its topic, its encoded properties, and its payload.
    pub(crate) const fn texts(&self) -> (&'a str, &'a [u8], &'a [u8]) {
        (self.topic, self.forwarded, self.payload)
    }

    /// Its QoS and retain flag.
    pub(crate) const fn flags(&self) -> (QoS, bool) {
        (self.qos, self.retain)
    }

    /// When its Message Expiry Interval ends.
    pub(crate) const fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = self.qos.bits();
        for (is_set, flag) in [(self.retain, RETAIN), (self.expires_at.is_some(), EXPIRES)] {
            flags |= if is_set { flag } else { 0 };
        }
        out.push(flags);
        if let Some(at) = self.expires_at {
            put_number(out, at.as_ms());
        }
        put_bytes(out, self.topic.as_bytes());
        put_bytes(out, self.forwarded);
        out.extend_from_slice(self.payload);
    }

    /// Takes everything that is left of a record.
    pub(super) fn decode(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        let flags = fields.byte()?;
        if flags >= FLAGS_END {
            return Err(Malformed);
        }
        let qos = QoS::from_bits(flags & 3).ok_or(Malformed)?;
        let expires_at = if flags & EXPIRES != 0 { Some(Instant::from_ms(fields.number()?)) } else { None };
        let (topic, forwarded, payload) = (fields.text()?, fields.bytes()?, fields.rest());
        if topic.is_empty() {
            return Err(Malformed);
        }
        Ok(Self { topic, forwarded, payload, qos, retain: flags & RETAIN != 0, expires_at })
    }
}
