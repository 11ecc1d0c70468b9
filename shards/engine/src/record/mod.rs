//! The records of a shard on their way to its log: everything that a session, a subscription or a message needs to outlive the
//! process.
//!
//! Invariants worth naming:
//! - Records stand in the order of the events that they tell of. So any prefix of them is a state that the shard was in.
//! - A message and all its deliveries are one record, or the parts of one: what is told of a delivery stands behind it.
//! - No number is given out twice, not even by a later start of the process.

mod body;
mod content;
mod crossing;
mod fields;
mod message;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::num::{NonZeroU32, NonZeroU64};

use wire::{QoS, SubscriptionId};

use crate::action::Batch;
use crate::base::heap;

pub(crate) use body::kind::WILL;
pub(crate) use body::{Body, LookedUp};
pub(crate) use content::Content;
pub(crate) use crossing::{Crossing, Purpose, TargetBody, TargetList};
pub(crate) use fields::{Fields, Malformed, Numbers, put_number};
pub(crate) use message::{DeliveryBody, DeliveryList, StoredBody, Terms};

/// Bits of a number below the start that it was given out in.
const COUNTER_BITS: u32 = 40;
/// A buffer that took more is given back.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// The records of a turn, for the log of this shard.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// Whole records, as `journal::encode_record` writes them. Empty if everything that somebody waits for was taken before.
    pub bytes: &'a [u8],
    /// Their number, which [`crate::Event::Durable`] names.
    pub batch: Batch,
    /// Whether somebody waits for them.
    pub is_awaited: bool,
}

/// A retained message as its record has it, kept until that is written.
#[derive(Debug)]
struct Stored {
    publisher: u64,
    user: String,
    shard: u16,
    sequence: u64,
}

/// The parts of a message that are gathered while it is fanned out.
#[derive(Debug, Default)]
struct Gathered {
    deliveries: Vec<u8>,
    sender: Option<(u64, u16)>,
    ends: Option<(u64, u64)>,
    will: Option<u64>,
    stored: Option<Stored>,
    /// The transfer by which it came.
    from: Option<(u16, u64)>,
    /// The shards that it goes to.
    targets: Vec<u8>,
    /// Deliveries that ended before their record was written, which follow it.
    settled: Vec<(u64, u64)>,
}

/// A fan-out that goes on in later steps.
#[derive(Debug)]
struct Cut {
    number: u64,
    sender: Option<(u64, u16)>,
    will: Option<u64>,
    from: Option<(u16, u64)>,
    targets: Vec<u8>,
    /// A part of it has a record.
    is_recorded: bool,
}

/// **Lives on:** every shard with a log.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Records that the host has not taken.
    records: Vec<u8>,
    /// The records that it took last.
    taken: Vec<u8>,
    /// Kept for its allocation.
    body: Vec<u8>,
    /// Kept for its allocation.
    identifiers: Vec<u8>,
    /// The number that was given out last.
    number: u64,
    open: Gathered,
    /// The message that was fanned out last has a record.
    has_recorded: bool,
    cut: Option<Cut>,
}

impl Recorder {
    /// Of the start of the process with this number.
    pub(crate) fn new(start: NonZeroU32) -> Self {
        Self {
            records: Vec::new(),
            taken: Vec::new(),
            body: Vec::new(),
            identifiers: Vec::new(),
            number: first_number(start),
            open: Gathered::default(),
            has_recorded: false,
            cut: None,
        }
    }

    /// A number that no start gave out before.
    pub(crate) fn next_number(&mut self) -> NonZeroU64 {
        self.number += 1;
        NonZeroU64::MIN.saturating_add(self.number - 1)
    }

    /// Writes a record.
    pub(crate) fn write(&mut self, record: &Body<'_>) {
        self.body.clear();
        let kind = record.encode(&mut self.body);
        journal::encode_record(&mut self.records, kind, &self.body);
        if self.body.capacity() > BUFFER_BYTES_KEPT {
            self.body = Vec::new();
        }
    }

    /// A delivery has ended, however.
    pub(crate) fn settled(&mut self, session: NonZeroU64, delivery: u64) {
        if self.open.deliveries.is_empty() {
            self.write(&Body::Settled { session: session.get(), delivery });
        } else {
            // It may be one of the message that is fanned out at this moment.
            self.open.settled.push((session.get(), delivery));
        }
    }

    /// The message that is fanned out next is a client's, and its session keeps the Packet Identifier.
    pub(crate) fn set_sender(&mut self, session: NonZeroU64, packet_id: u16) {
        assert!(self.open.is_empty());
        self.open.sender = Some((session.get(), packet_id));
    }

    /// The message that is fanned out next ends another delivery of it.
    pub(crate) fn set_ends(&mut self, session: NonZeroU64, delivery: u64) {
        assert!(self.open.is_empty());
        self.open.ends = Some((session.get(), delivery));
    }

    /// The message that is fanned out next is a will.
    pub(crate) fn set_will(&mut self, number: u64) {
        assert!(self.open.is_empty());
        self.open.will = Some(number);
    }

    /// The message of a client was fanned out, begun or refused. Returns whether the log has its Packet Identifier, or will have it
    /// at the end of the fan-out.
    pub(crate) fn end_sender(&mut self) -> bool {
        let was_refused = self.open.sender.take().is_some();
        assert!(self.open.is_empty());
        !was_refused && (self.cut.is_some() || self.has_recorded)
    }

    /// A will was fanned out, begun or refused.
    pub(crate) fn end_will(&mut self) {
        if let Some(number) = self.open.will.take() {
            self.write(&Body::WillEnded { number });
        }
        assert!(self.open.is_empty());
    }

    /// The message becomes the retained one of its topic, or removes it.
    pub(crate) fn set_stored(&mut self, publisher: Option<NonZeroU64>, user: &str, origin: (u16, u64)) {
        let publisher = publisher.map_or(0, NonZeroU64::get);
        self.open.stored = Some(Stored { publisher, user: user.into(), shard: origin.0, sequence: origin.1 });
    }

    /// The message that is fanned out next came by this transfer of another shard.
    pub(crate) fn set_from(&mut self, source: u16, sequence: u64) {
        assert!(self.open.is_empty());
        self.open.from = Some((source, sequence));
    }

    /// The message goes to another shard, as a transfer with the number of its record.
    pub(crate) fn add_target(&mut self, target: &TargetBody<'_>) {
        target.encode(&mut self.open.targets);
    }

    /// The targets of the message that is fanned out.
    pub(crate) fn targets(&self) -> TargetList<'_> {
        TargetList::of(&self.open.targets)
    }

    /// Whether the message that was fanned out last has a record.
    pub(crate) const fn has_recorded(&self) -> bool {
        self.has_recorded
    }

    /// Adds a delivery to the message that is fanned out. A group has a key, and may be owed the message. Returns the place that [`Recorder::take_back`] needs.
    pub(crate) fn add_delivery(
        &mut self,
        session: NonZeroU64,
        delivery: u64,
        qos: QoS,
        (retain, group, identifiers): (bool, Option<(u64, bool)>, &[SubscriptionId]),
    ) -> usize {
        assert!(qos != QoS::AtMostOnce);
        self.identifiers.clear();
        for identifier in identifiers {
            put_number(&mut self.identifiers, identifier.get().into());
        }
        let terms = Terms::new(retain, group.map(|(key, _)| key), Numbers::of(&self.identifiers));
        let terms = if group.is_some_and(|(_, is_owed)| is_owed) { terms.owed() } else { terms };
        let at = self.open.deliveries.len();
        DeliveryBody::new((session.get(), delivery), qos, terms).encode(&mut self.open.deliveries);
        at
    }

    /// The delivery that was added last did not come about.
    pub(crate) fn take_back(&mut self, at: usize) {
        assert!(at <= self.open.deliveries.len());
        self.open.deliveries.truncate(at);
    }

    /// Writes the part of a fan-out that was done, if it goes on in later steps. Only the last part has what the whole message
    /// brings about.
    pub(crate) fn cut_message(&mut self, number: u64, content: &Content<'_>) {
        if self.cut.is_none() {
            let Gathered { sender, will, from, .. } = self.open;
            let targets = core::mem::take(&mut self.open.targets);
            self.cut = Some(Cut { number, sender, will, from, targets, is_recorded: false });
        }
        (self.open.sender, self.open.will, self.open.from) = (None, None, None);
        let Some(cut) = &mut self.cut else { return };
        assert!(cut.number == number);
        assert!(self.open.targets.is_empty());
        let has_targets = !cut.targets.is_empty() && !cut.is_recorded;
        if !self.open.deliveries.is_empty() || self.open.stored.is_some() || has_targets {
            let is_first = !core::mem::replace(&mut cut.is_recorded, true);
            self.write_message(number, is_first.then_some(content), true);
        }
    }

    /// Writes the last part of a fan-out that was cut.
    pub(crate) fn end_cut_message(&mut self) {
        let Some(Cut { number, sender, will, from, targets, is_recorded }) = self.cut.take() else { return };
        self.has_recorded = is_recorded;
        if is_recorded {
            (self.open.sender, self.open.will, self.open.from) = (sender, will, from);
            self.open.targets = targets;
            self.write_message(number, None, false);
        } else if let Some(number) = will {
            self.write(&Body::WillEnded { number });
        }
    }

    /// Writes the record of a message that was fanned out, if anything of it has to outlive the process. The identifier of its
    /// sender alone does not: if the publish is repeated, nobody has had it.
    pub(crate) fn end_message(&mut self, number: u64, content: &Content<'_>) {
        let Gathered { deliveries, stored, targets, .. } = &self.open;
        self.has_recorded = !deliveries.is_empty() || stored.is_some() || !targets.is_empty();
        if self.has_recorded {
            self.write_message(number, Some(content), false);
            assert!(self.open.is_empty());
            return;
        }
        let Gathered { ends, will, settled, .. } = core::mem::take(&mut self.open);
        assert!(settled.is_empty());
        if let Some((session, delivery)) = ends {
            self.write(&Body::Settled { session, delivery });
        }
        if let Some(number) = will {
            self.write(&Body::WillEnded { number });
        }
    }

    fn write_message(&mut self, number: u64, content: Option<&Content<'_>>, goes_on: bool) {
        let open = core::mem::take(&mut self.open);
        let stored = open
            .stored
            .as_ref()
            .map(|stored| StoredBody::new((stored.publisher, &stored.user), (stored.shard, stored.sequence)));
        self.write(&Body::Message {
            number,
            sender: open.sender,
            ends: open.ends,
            will: open.will,
            stored,
            crossing: Crossing::new(open.from, TargetList::of(&open.targets)),
            deliveries: DeliveryList::of(&open.deliveries),
            content: content.copied(),
            goes_on,
        });
        let Gathered { mut deliveries, mut targets, settled, .. } = open;
        deliveries.clear();
        if deliveries.capacity() <= BUFFER_BYTES_KEPT {
            self.open.deliveries = deliveries;
        }
        targets.clear();
        if targets.capacity() <= BUFFER_BYTES_KEPT {
            self.open.targets = targets;
        }
        for (session, delivery) in settled {
            self.write(&Body::Settled { session, delivery });
        }
    }

    /// Whether the host has taken everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Hands everything out that was written since the last call.
    pub(crate) fn take(&mut self) -> &[u8] {
        core::mem::swap(&mut self.records, &mut self.taken);
        self.records.clear();
        if self.records.capacity() > BUFFER_BYTES_KEPT {
            self.records = Vec::new();
        }
        &self.taken
    }

    /// Bytes of its buffers.
    pub(crate) fn memory_bytes(&self) -> u64 {
        [&self.records, &self.taken, &self.body, &self.open.deliveries, &self.open.targets]
            .iter()
            .map(|buffer| heap::block(buffer.capacity()))
            .sum()
    }

    /// Nothing of a message is gathered between two steps, for an audit.
    ///
    /// # Panics
    /// If something is.
    pub(crate) fn check(&self) {
        assert!(self.open.is_empty());
    }

    /// Whether a fan-out goes on in later steps.
    pub(crate) fn has_cut_message(&self) -> bool {
        self.cut.is_some()
    }
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
            && self.sender.is_none()
            && self.ends.is_none()
            && self.will.is_none()
            && self.stored.is_none()
            && self.from.is_none()
            && self.targets.is_empty()
            && self.settled.is_empty()
    }
}

/// Records of a checkpoint, which describe objects as they are.
#[derive(Debug)]
pub(crate) struct Objects<'a> {
    out: &'a mut Vec<u8>,
    /// Kept for its allocation.
    body: Vec<u8>,
}

impl<'a> Objects<'a> {
    /// Appends them to `out`.
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, body: Vec::new() }
    }

    pub(crate) fn write(&mut self, record: &Body<'_>) {
        self.body.clear();
        let kind = record.encode(&mut self.body);
        journal::encode_record(self.out, kind, &self.body);
    }

    /// A message with one delivery.
    pub(crate) fn write_delivery(&mut self, delivery: &DeliveryBody<'_>, content: Content<'_>) {
        let mut deliveries = Vec::new();
        delivery.encode(&mut deliveries);
        self.write(&Body::Message {
            number: 0,
            sender: None,
            ends: None,
            will: None,
            stored: None,
            crossing: Crossing::default(),
            deliveries: DeliveryList::of(&deliveries),
            content: Some(content),
            goes_on: false,
        });
    }

    /// Bytes that were written so far.
    pub(crate) fn bytes(&self) -> usize {
        self.out.len()
    }
}

/// The number below all that a start gives out.
pub(crate) fn first_number(start: NonZeroU32) -> u64 {
    u64::from(start.get()) << COUNTER_BITS
}

/// The start that gave out a number.
pub(crate) const fn start_of(number: u64) -> u64 {
    number >> COUNTER_BITS
}
