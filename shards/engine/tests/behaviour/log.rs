//! The log of a shard: the records that it wrote, and a second shard that is recovered from them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use engine::{Batch, CheckpointCursor, Engine, Event, Instant, Limits, SessionRecord, SharedRules};
use wire::AckKind;

use crate::client::{Client, Got, Hello, plain};
use crate::host::Shard;

/// Messages that one client is sent at most when its session is compared.
const MESSAGES_MAX: usize = 100_000;

/// Every so many batches a slice is taken, where all behaviours are run with a log.
const LOGGED_BATCHES_PER_SLICE: usize = 4;
/// Prefixes of a log that are recovered.
const PREFIXES: usize = 8;

/// Everything that a shard recorded.
#[derive(Debug)]
pub(crate) struct Log {
    limits: Limits,
    seed: u64,
    bytes: Vec<u8>,
    /// The ends of what was appended at once, each with its batch.
    ends: Vec<(usize, Batch)>,
    synced: Batch,
    /// Records so far. A position in this log is a number of records.
    record_count: u64,
    /// The checkpoint that is written.
    making: Checkpoint,
    /// Where it goes on.
    cursor: CheckpointCursor,
    /// The last one that is whole.
    whole: Option<Checkpoint>,
}

/// A checkpoint: the number of records before it, and slices with theirs.
#[derive(Clone, Debug, Default)]
struct Checkpoint {
    begun: u64,
    slices: Vec<(u64, Vec<u8>)>,
}

/// A message as its subscriber has it: identifier, QoS, topic, payload.
type Delivery = (u16, u8, String, Vec<u8>);

impl Log {
    pub(crate) fn new(limits: &Limits, seed: u64) -> Self {
        Self {
            limits: limits.clone(),
            seed,
            bytes: Vec::new(),
            ends: Vec::new(),
            synced: Batch(0),
            record_count: 0,
            making: Checkpoint::default(),
            cursor: CheckpointCursor::default(),
            whole: None,
        }
    }

    pub(crate) fn append(&mut self, records: &[u8], batch: Batch) {
        self.bytes.extend_from_slice(records);
        self.ends.push((self.bytes.len(), batch));
        self.record_count += parse(records).len() as u64;
    }

    /// Takes the next slice of a checkpoint, as small as can be. One after the other is written.
    pub(crate) fn take_slice(&mut self, engine: &Engine, now: Instant) {
        let is_turn = !crate::LOGGED || self.ends.len().is_multiple_of(LOGGED_BATCHES_PER_SLICE);
        if !is_turn || !engine.may_checkpoint() {
            return;
        }
        if self.making.slices.is_empty() {
            self.making.begun = self.record_count;
        }
        let mut slice = Vec::new();
        let next = engine.checkpoint(now, core::mem::take(&mut self.cursor), 1, &mut slice);
        self.making.slices.push((self.record_count, slice));
        if let Some(cursor) = next {
            self.cursor = cursor;
        } else {
            self.whole = Some(core::mem::take(&mut self.making));
        }
    }

    /// The disk has everything up to this batch.
    pub(crate) fn set_synced(&mut self, batch: Batch) {
        self.synced = self.synced.max(batch);
    }

    /// The last batch, if it is not durable: no acknowledgement waits for it.
    fn unsynced(&self) -> Option<Batch> {
        self.ends.last().map(|&(_, batch)| batch).filter(|batch| *batch > self.synced)
    }

    /// How many batches the disk has for certain.
    pub(crate) fn synced_count(&self) -> usize {
        self.ends.partition_point(|&(_, batch)| batch <= self.synced)
    }

    /// How often something was appended.
    pub(crate) fn batch_count(&self) -> usize {
        self.ends.len()
    }

    /// The records of the first so many batches.
    pub(crate) fn records(&self, batch_count: usize) -> Vec<(u8, Vec<u8>)> {
        let end = batch_count.checked_sub(1).map_or(0, |last| self.ends[last].0);
        parse(&self.bytes[..end])
    }

    /// A shard in the next start of the process, recovered from the first so many batches at a moment.
    pub(crate) fn recovered(&self, batch_count: usize, at_ms: u64) -> Shard {
        self.recovered_under(None, batch_count, at_ms)
    }

    /// The same, under rules that are in force from the start.
    pub(crate) fn recovered_under(
        &self,
        rules: Option<&SharedRules>,
        batch_count: usize,
        at_ms: u64,
    ) -> Shard {
        let start = self.limits.journal_start.map_or(1, NonZeroU32::get) + 1;
        let limits = Limits { journal_start: NonZeroU32::new(start), ..self.limits.clone() };
        let mut shard = Shard::new(limits, self.seed);
        shard.pass_ms(at_ms - shard.now().as_ms());
        if rules.is_some() {
            shard.raw_step(Event::Rules(rules));
        }
        let mut records = self.records(batch_count);
        // A checkpoint counts once the log is durable up to its last slice.
        let has_all =
            |whole: &&Checkpoint| whole.slices.last().is_none_or(|&(as_of, _)| as_of <= records.len() as u64);
        let mut from = 0;
        if let Some(whole) = self.whole.as_ref().filter(has_all) {
            from = whole.begun;
            for (as_of, slice) in &whole.slices {
                for (kind, body) in parse(slice) {
                    let taken = shard.engine.recover_object(*as_of, kind, &body);
                    taken.unwrap_or_else(|fault| panic!("{fault}"));
                }
            }
        }
        shard.recover(from, &records);
        // Its own records belong to the same log.
        records.extend(shard.log.records(shard.log.batch_count()));
        shard.log.replace(&records);
        shard
    }

    fn replace(&mut self, records: &[(u8, Vec<u8>)]) {
        self.bytes.clear();
        for (kind, body) in records {
            let mut length = body.len() + 1;
            while length >= 0x80 {
                self.bytes.push(length.to_le_bytes()[0] | 0x80);
                length >>= 7;
            }
            self.bytes.push(length.to_le_bytes()[0]);
            self.bytes.push(*kind);
            self.bytes.extend_from_slice(body);
        }
        self.ends = vec![(self.bytes.len(), Batch(0))];
        self.record_count = records.len() as u64;
        // It begins anew in this start.
        (self.making, self.cursor, self.whole) = (Checkpoint::default(), CheckpointCursor::default(), None);
    }
}

/// The records of a piece of a log.
fn parse(mut rest: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = rest[0];
            rest = &rest[1..];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        records.push((rest[0], rest[1..length].to_vec()));
        rest = &rest[length..];
    }
    records
}

impl Shard {
    /// Ends every connection, recovers a second shard from the log, and compares it with this one: sessions, subscriptions, what
    /// each of them is sent, and retained messages. Then any prefix of the log is recovered as well.
    pub(crate) fn check_log(&mut self) {
        self.durable_at_once = true;
        self.ticks = true;
        self.durable();
        self.hang_up_all();
        self.settle();
        if let Some(batch) = self.log.unsynced() {
            self.step(Event::durable(batch));
            self.settle();
        }
        let at_ms = self.now().as_ms();
        let count = self.log.batch_count();
        assert_eq!(self.log.synced_count(), count);
        for prefix in (0..count).step_by(count / PREFIXES + 1) {
            let shard = self.log.recovered(prefix, at_ms);
            drop(shard.engine.audit());
        }
        let mut second = self.log.recovered(count, at_ms);
        let (before, after) = (self.lasting(), second.lasting());
        assert_eq!(before, after, "sessions and what they have to deliver");
        let (before, after) = (self.exported(), second.exported());
        assert_eq!(before, after, "subscriptions");
        let Some(retained) = self.retained() else {
            // It lets nobody in any more.
            return;
        };
        assert_eq!(Some(retained), second.retained(), "retained messages");
        for record in before {
            if record.user.is_none() {
                let name = &record.client_id;
                assert_eq!(self.drained(name), second.drained(name), "messages of {name}");
            }
        }
        // A second crash, after all of it was sent again.
        second.hang_up_all();
        let third = second.log.recovered(second.log.batch_count(), second.now().as_ms());
        assert_eq!(third.lasting(), second.lasting());
        second.finish();
    }

    /// Messages that sessions have in flight or queued, by client.
    fn lasting(&self) -> BTreeMap<String, u64> {
        let sessions = self.engine.audit().sessions.into_iter();
        sessions.map(|session| (session.client_id, session.inflight + session.queued)).collect()
    }

    pub(crate) fn exported(&self) -> Vec<SessionRecord> {
        let (mut records, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            from = self.engine.export(self.now(), at, 64, &mut records);
        }
        records.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        for record in &mut records {
            record.subscriptions.sort_by(|a, b| a.topic_filter.cmp(&b.topic_filter));
        }
        records
    }

    /// `None` if it lets nobody in.
    fn retained(&mut self) -> Option<BTreeMap<String, Vec<u8>>> {
        let reader = self.dial(&Hello::v5("reader of the retained"));
        let got = self.next(reader);
        let is_let_in = matches!(&got, Some(Got::ConnAck { reason: 0, fields, .. })
            if fields.available == [None; 4]);
        if !is_let_in {
            self.hang_up(reader);
            return None;
        }
        let code = self.subscribe_with(reader, &[("#", plain(0))], None)[0];
        self.advance_ms(10);
        let got = self.take(reader);
        self.hang_up(reader);
        if code > 2 {
            return None;
        }
        let messages = got.into_iter().filter_map(|got| match got {
            Got::Publish(message) => Some((message.topic, message.payload)),
            _ => None,
        });
        Some(messages.collect())
    }

    /// Everything that a client is sent when it comes back, in order.
    fn drained(&mut self, name: &str) -> Vec<Delivery> {
        let (client, is_present) = self.connect_present(&Hello::v5(name).resume());
        assert!(is_present, "{name}");
        let mut messages = Vec::new();
        while let Some(got) = self.next(client) {
            match got {
                Got::Publish(message) => {
                    self.acknowledge(client, message.qos, message.id);
                    messages.push((message.id, message.qos, message.topic, message.payload));
                }
                Got::Ack(AckKind::PubRel, id, _) => {
                    messages.push((id, 2, "PUBREL".to_owned(), Vec::new()));
                    self.ack(client, AckKind::PubComp, id);
                }
                other => panic!("{other:?}"),
            }
            assert!(messages.len() < MESSAGES_MAX);
        }
        self.hang_up(client);
        messages
    }

    fn acknowledge(&mut self, client: Client, qos: u8, id: u16) {
        match qos {
            0 => {}
            1 => self.ack(client, AckKind::PubAck, id),
            _ => self.ack(client, AckKind::PubRec, id),
        }
    }
}
