//! The body of MESSAGE: one publish, with everything that follows from it on this shard.
//!
//! A fan-out that took several steps wrote several such records, its **parts**: the first has the message, the last has what counts
//! only once all of it is there.

use alloc::vec::Vec;

use wire::QoS;

use super::body::Body;
use super::content::Content;
use super::crossing::{Crossing, TargetList};
use super::fields::{Fields, Malformed, Numbers, put_bytes, put_number};

const SENDER: u64 = 1;
const ENDS: u64 = 1 << 1;
const WILL: u64 = 1 << 2;
const STORED: u64 = 1 << 3;
/// The content is in an earlier record with the same number.
const CONTINUED: u64 = 1 << 4;
/// Another record with the same number follows.
const GOES_ON: u64 = 1 << 5;
/// It came from another shard.
const FROM: u64 = 1 << 6;
/// It goes to other shards.
const TARGETS: u64 = 1 << 7;
const FLAGS_END: u64 = 1 << 8;

/// Bits of a delivery behind its QoS.
const DELIVERY_RETAIN: u8 = 1 << 2;
const DELIVERY_GROUP: u8 = 1 << 3;
const DELIVERY_IDENTIFIERS: u8 = 1 << 4;
/// Its session is in no log: the message is owed to the group.
const DELIVERY_OWED: u8 = 1 << 5;
const DELIVERY_END: u8 = 1 << 6;

/// The retained message of its topic is this one, or none if the payload is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StoredBody<'a> {
    /// Fingerprint of the publisher; 0 for none.
    publisher: u64,
    /// Empty for nobody.
    user: &'a str,
    shard: u16,
    sequence: u64,
}

impl<'a> StoredBody<'a> {
    /// The fingerprint of its publisher, 0 for none, and its user; the shard of its origin and the number there.
    pub(crate) const fn new((publisher, user): (u64, &'a str), (shard, sequence): (u16, u64)) -> Self {
        Self { publisher, user, shard, sequence }
    }

    pub(crate) const fn author(&self) -> (u64, &'a str) {
        (self.publisher, self.user)
    }

    pub(crate) const fn origin(&self) -> (u16, u64) {
        (self.shard, self.sequence)
    }
}

/// The terms of a delivery beside its QoS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Terms<'a> {
    retain: bool,
    /// The key of the group that may give it to another member.
    group: Option<u64>,
    /// The session is in no log: if the process ends, the group gets the message back.
    is_owed: bool,
    /// Subscription Identifiers.
    identifiers: Numbers<'a>,
}

impl<'a> Terms<'a> {
    pub(crate) const fn new(retain: bool, group: Option<u64>, identifiers: Numbers<'a>) -> Self {
        Self { retain, group, is_owed: false, identifiers }
    }

    /// The same, of a session that is in no log.
    pub(crate) const fn owed(self) -> Self {
        assert!(self.group.is_some());
        Self { is_owed: true, ..self }
    }

    pub(crate) const fn is_owed(&self) -> bool {
        self.is_owed
    }

    pub(crate) const fn retain(&self) -> bool {
        self.retain
    }

    pub(crate) const fn group(&self) -> Option<u64> {
        self.group
    }

    pub(crate) const fn identifiers(&self) -> Numbers<'a> {
        self.identifiers
    }
}

/// A delivery to one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeliveryBody<'a> {
    session: u64,
    /// Its place in the sequence of that session.
    delivery: u64,
    qos: QoS,
    terms: Terms<'a>,
}

impl<'a> DeliveryBody<'a> {
    pub(crate) const fn new((session, delivery): (u64, u64), qos: QoS, terms: Terms<'a>) -> Self {
        Self { session, delivery, qos, terms }
    }

    /// The session and the place in its sequence.
    pub(crate) const fn of(&self) -> (u64, u64) {
        (self.session, self.delivery)
    }

    pub(crate) const fn qos(&self) -> QoS {
        self.qos
    }

    pub(crate) const fn terms(&self) -> &Terms<'a> {
        &self.terms
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self { session, delivery, qos, terms: Terms { retain, group, is_owed, identifiers } } = *self;
        put_number(out, session);
        put_number(out, delivery);
        let has_identifiers = identifiers != Numbers::default();
        let mut bits = qos.bits();
        for (is_set, bit) in [
            (retain, DELIVERY_RETAIN),
            (group.is_some(), DELIVERY_GROUP),
            (has_identifiers, DELIVERY_IDENTIFIERS),
            (is_owed, DELIVERY_OWED),
        ] {
            bits |= if is_set { bit } else { 0 };
        }
        out.push(bits);
        if let Some(group) = group {
            out.extend_from_slice(&group.to_le_bytes());
        }
        if has_identifiers {
            identifiers.put(out);
        }
    }

    fn decode(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        let (session, delivery, bits) = (fields.number()?, fields.number()?, fields.byte()?);
        if bits >= DELIVERY_END {
            return Err(Malformed);
        }
        let qos = QoS::from_bits(bits & 3).ok_or(Malformed)?;
        let group = if bits & DELIVERY_GROUP != 0 {
            let mut key = [0; 8];
            for byte in &mut key {
                *byte = fields.byte()?;
            }
            Some(u64::from_le_bytes(key))
        } else {
            None
        };
        let has_identifiers = bits & DELIVERY_IDENTIFIERS != 0;
        let identifiers = if has_identifiers { Numbers::get(fields)? } else { Numbers::default() };
        let is_owed = bits & DELIVERY_OWED != 0;
        if is_owed && group.is_none() {
            return Err(Malformed);
        }
        let terms = Terms { retain: bits & DELIVERY_RETAIN != 0, group, is_owed, identifiers };
        Ok(Self { session, delivery, qos, terms })
    }
}

/// The deliveries of a record, in a byte string that was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DeliveryList<'a>(&'a [u8]);

impl<'a> DeliveryList<'a> {
    /// Of bytes that [`DeliveryBody::encode`] appended.
    pub(crate) const fn of(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    fn get(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        let encoded = fields.bytes()?;
        let mut deliveries = Fields::new(encoded);
        while !deliveries.is_empty() {
            DeliveryBody::decode(&mut deliveries)?;
        }
        Ok(Self(encoded))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = DeliveryBody<'a>> + use<'a> {
        let mut deliveries = Fields::new(self.0);
        core::iter::from_fn(move || DeliveryBody::decode(&mut deliveries).ok())
    }
}

/// Appends the body of MESSAGE.
///
/// # Panics
/// If it is another record.
pub(super) fn encode(body: &Body<'_>, out: &mut Vec<u8>) {
    let &Body::Message { number, sender, ends, will, stored, crossing, deliveries, content, goes_on } = body
    else {
        unreachable!("the caller has looked");
    };
    put_number(out, number);
    let mut flags = 0;
    for (is_set, flag) in [
        (sender.is_some(), SENDER),
        (ends.is_some(), ENDS),
        (will.is_some(), WILL),
        (stored.is_some(), STORED),
        (content.is_none(), CONTINUED),
        (goes_on, GOES_ON),
        (crossing.from().is_some(), FROM),
        (!crossing.targets().is_empty(), TARGETS),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    put_number(out, flags);
    if let Some((session, packet_id)) = sender {
        put_number(out, session);
        put_number(out, packet_id.into());
    }
    if let Some((session, delivery)) = ends {
        put_number(out, session);
        put_number(out, delivery);
    }
    if let Some(will) = will {
        put_number(out, will);
    }
    if let Some(StoredBody { publisher, user, shard, sequence }) = stored {
        put_number(out, publisher);
        put_bytes(out, user.as_bytes());
        put_number(out, shard.into());
        put_number(out, sequence);
    }
    if let Some((shard, sequence)) = crossing.from() {
        put_number(out, shard.into());
        put_number(out, sequence);
    }
    if !crossing.targets().is_empty() {
        put_bytes(out, crossing.targets().bytes());
    }
    put_bytes(out, deliveries.0);
    if let Some(content) = content {
        content.encode(out);
    }
}

/// Reads the body of MESSAGE.
pub(super) fn decode<'a>(fields: &mut Fields<'a>) -> Result<Body<'a>, Malformed> {
    let (number, flags) = (fields.number()?, fields.number()?);
    if flags >= FLAGS_END {
        return Err(Malformed);
    }
    let has = |flag| flags & flag != 0;
    let sender = if has(SENDER) { Some((fields.number()?, fields.small()?)) } else { None };
    let ends = if has(ENDS) { Some((fields.number()?, fields.number()?)) } else { None };
    let will = if has(WILL) { Some(fields.number()?) } else { None };
    let stored = if has(STORED) {
        let (publisher, user) = (fields.number()?, fields.text()?);
        let (shard, sequence) = (fields.small()?, fields.number()?);
        Some(StoredBody { publisher, user, shard, sequence })
    } else {
        None
    };
    let from = if has(FROM) { Some((fields.small()?, fields.number()?)) } else { None };
    let targets = if has(TARGETS) { TargetList::get(fields)? } else { TargetList::default() };
    let crossing = Crossing::new(from, targets);
    let deliveries = DeliveryList::get(fields)?;
    let content = if has(CONTINUED) { None } else { Some(Content::decode(fields)?) };
    let goes_on = has(GOES_ON);
    Ok(Body::Message { number, sender, ends, will, stored, crossing, deliveries, content, goes_on })
}
