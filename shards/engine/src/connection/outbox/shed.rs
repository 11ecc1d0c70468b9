//! The list of pieces of a slow reader, and taking back what waits in it, whole packet by whole packet.
//!
//! Invariants:
//! - A packet stays if the kernel or a layer above it has begun to take it, if it lies in a lent piece, or if it sets a topic alias, because later packets
//!   name the alias alone. The rest keeps its order.
//! - A shared payload stays exactly if the head before it stays, so a walk may begin and end before any piece with a head.

use alloc::vec::Vec;
use core::mem;

use wire::ProtocolVersion;
use wire::packet::Publish;

use super::{BufferPool, Chunk, Content, Outbox, PIECE_BYTES, Sealed, packet_at};
use crate::base::heap;
use crate::base::time::Instant;

/// Bytes that are moved for one unit of work.
const BYTES_PER_WORK: usize = 1_024;
/// Packets that are looked at for one unit of work.
const PACKETS_PER_WORK: u32 = 8;
/// CONNACK, without which no client understands a DISCONNECT.
const CONNACK: u8 = 0x20;

/// The packets that are taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shed {
    /// QoS 0 messages.
    QoS0,
    /// All but CONNACK, before the connection is closed. Messages of QoS 1 and 2 stay in flight in their session.
    All,
}

/// The result of looking at an outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Debt {
    bytes: u64,
    waited_ms: u64,
    idle_ms: u64,
}

impl Debt {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long some of them have waited, in milliseconds, since the first look.
    pub(crate) fn waited_ms(&self) -> u64 {
        self.waited_ms
    }

    /// How long the reader is known to have taken no byte, in milliseconds.
    pub(crate) fn idle_ms(&self) -> u64 {
        self.idle_ms
    }
}

/// The result of taking packets back.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    qos0_count: u32,
    work: u32,
    next_piece: Option<usize>,
}

impl Taken {
    /// QoS 0 messages that were lost.
    pub(crate) fn qos0_count(&self) -> u32 {
        self.qos0_count
    }

    /// Units of work that it took.
    pub(crate) fn work(&self) -> u32 {
        self.work
    }

    /// The piece at which another call goes on, if there was no time for all.
    pub(crate) fn next_piece(&self) -> Option<usize> {
        self.next_piece
    }
}

/// The progress of a slow reader. It is kept while memory is short, and costs others nothing.
#[derive(Debug, Default)]
pub(super) struct Watch {
    since: Option<Instant>,
    /// Bytes that waited at `since` and still do.
    owed_bytes: u64,
    /// The first look since which the reader took nothing.
    idle_since: Instant,
    /// It took a byte since the last look.
    took_bytes: bool,
}

impl Watch {
    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.owed_bytes = self.owed_bytes.saturating_sub(bytes as u64);
        self.took_bytes |= bytes > 0;
    }

    /// Begins anew with `bytes` that wait.
    fn begin(&mut self, now: Instant, bytes: u64) {
        if self.since.is_none() {
            self.idle_since = now;
        }
        self.since = Some(now);
        self.owed_bytes = bytes;
    }

    /// Returns for how many milliseconds bytes have waited, and for how many none was taken.
    fn look(&mut self, now: Instant, bytes: u64) -> (u64, u64) {
        if self.since.is_none() || mem::take(&mut self.took_bytes) {
            self.idle_since = now;
        }
        if self.owed_bytes == 0 {
            self.begin(now, bytes);
        }
        let since = self.since.unwrap_or(now);
        assert!(self.idle_since <= now && since <= now);
        (since.ms_until(now), self.idle_since.ms_until(now))
    }
}

/// The rule by which packets of one outbox are taken back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    shed: Shed,
    has_aliases: bool,
}

impl Terms {
    /// Without aliases no packet sets one, and none has to be decoded.
    pub(crate) fn new(shed: Shed, has_aliases: bool) -> Self {
        Self { shed, has_aliases }
    }

    /// Whether a packet is taken back, of which the payload may be missing.
    fn takes(self, first_byte: u8, packet: &[u8]) -> bool {
        match self.shed {
            // It is the first packet of all, so it lies in the first piece.
            Shed::All => first_byte & 0xF0 != CONNACK,
            Shed::QoS0 => is_qos0(first_byte) && !(self.has_aliases && sets_alias(first_byte, packet)),
        }
    }
}

impl Outbox {
    /// Lets a buffer grow by powers of two, so that a whole piece fills its buffer: one that began with the length of a message would
    /// double past the piece, and a third of what is counted would never be used.
    pub(super) fn round_capacity(&mut self) {
        let rounded = self.tail.capacity().next_power_of_two();
        if rounded <= PIECE_BYTES {
            self.tail.reserve_exact(rounded - self.tail.len());
        }
    }

    /// Changes the list of pieces, which begins with the first change, and notes its own bytes.
    pub(super) fn change_sealed(&mut self, pool: &mut BufferPool, change: impl FnOnce(&mut Sealed)) {
        let Some(sealed) = &mut self.sealed else {
            change(self.sealed.get_or_insert_default());
            return pool.note(0, self.list_bytes());
        };
        let capacity = sealed.pieces.capacity();
        change(sealed);
        if sealed.pieces.capacity() != capacity {
            let before = sealed_bytes(capacity);
            pool.note(before, self.list_bytes());
        }
    }

    /// Bytes of the list of pieces, without the pieces.
    pub(super) fn list_bytes(&self) -> u64 {
        self.sealed.as_ref().map_or(0, |sealed| sealed_bytes(sealed.pieces.capacity()))
    }

    /// The list of pieces ends with its last piece.
    pub(super) fn forget_empty_list(&mut self, pool: &mut BufferPool) {
        if self.sealed.as_ref().is_some_and(|sealed| sealed.pieces.is_empty()) {
            pool.note(self.list_bytes(), 0);
            self.sealed = None;
        }
    }

    /// Looks at how its reader takes what waits. `None` if less than `bytes_min` bytes wait that may all be sent at the end of the turn.
    pub(crate) fn look(&mut self, pool: &mut BufferPool, now: Instant, bytes_min: u64) -> Option<Debt> {
        let bytes = self.bytes;
        if bytes == 0 || (self.sealed.is_none() && bytes < bytes_min) {
            return None;
        }
        let mut seen = (0, 0);
        self.change_sealed(pool, |sealed| seen = sealed.watch.look(now, bytes));
        Some(Debt { bytes, waited_ms: seen.0, idle_ms: seen.1 })
    }

    /// The bytes that are left wait from now on.
    pub(crate) fn look_anew(&mut self, pool: &mut BufferPool, now: Instant) {
        let bytes = self.bytes;
        if bytes > 0 {
            self.change_sealed(pool, |sealed| sealed.watch.begin(now, bytes));
        }
    }

    /// Takes packets back, from a piece on, within about `work_max` units.
    pub(crate) fn shed(
        &mut self,
        pool: &mut BufferPool,
        terms: Terms,
        (from_piece, work_max): (usize, u32),
    ) -> Taken {
        let mut taken = Taken::default();
        let (count_before, bytes_before) = (self.qos0_count, self.bytes);
        self.seal(pool);
        let list_bytes = self.list_bytes();
        let Self { sealed, bytes, qos0_count, .. } = self;
        let Some(sealed) = sealed else { return taken };
        let (mut at, mut is_first, mut keeps_payload) = (0, true, true);
        sealed.pieces.retain_mut(|chunk| {
            let is_head = matches!(chunk.content, Content::Owned(_));
            // A connection is not closed with half of its packets taken back, so all of them are at once.
            if terms.shed == Shed::QoS0 && is_head && taken.work >= work_max && taken.next_piece.is_none() {
                taken.next_piece = Some(at);
            }
            let is_left_alone = at < from_piece || taken.next_piece.is_some();
            if is_left_alone || (!is_head && keeps_payload) {
                at += 1;
                is_first = false;
                return true;
            }
            let (length, counted) = (chunk.whole().len(), chunk.qos0_count);
            taken.work += 1;
            keeps_payload = match terms.shed {
                Shed::All if !is_first => chunk.empty(pool),
                Shed::All | Shed::QoS0 => chunk.take_back(pool, terms, &mut taken.work),
            };
            is_first = false;
            *bytes -= (length - chunk.whole().len()) as u64;
            *qos0_count -= counted - chunk.qos0_count;
            let stays = !chunk.whole().is_empty();
            assert!(stays || chunk.qos0_count == 0);
            at += usize::from(stays);
            stays
        });
        sealed.pieces.shrink_to(2 * sealed.pieces.len());
        pool.note(list_bytes, self.list_bytes());
        if !self.lent {
            self.forget_empty_list(pool);
        }
        assert!(self.bytes <= bytes_before && self.qos0_count <= count_before);
        taken.qos0_count = count_before - self.qos0_count;
        taken
    }

    /// Checks what is known of its reader, for an audit.
    ///
    /// # Panics
    /// If more is owed than waits.
    pub(super) fn check_watch(&self) {
        let owed_bytes = self.sealed.as_ref().map_or(0, |sealed| sealed.watch.owed_bytes);
        assert!(owed_bytes <= self.bytes);
    }
}

/// Bytes of a list of so many pieces.
fn sealed_bytes(capacity: usize) -> u64 {
    heap::block(size_of::<Sealed>()) + heap::block(capacity * size_of::<Chunk>())
}

impl Chunk {
    /// Gives all of it up. Returns that its last packet does not stay.
    fn empty(&mut self, pool: &mut BufferPool) -> bool {
        self.qos0_count = 0;
        mem::replace(&mut self.content, Content::Owned(Vec::new())).release(pool);
        false
    }

    /// Takes packets out, and gives their memory back. Returns whether its last packet stays, whose payload may follow in a piece of
    /// its own.
    fn take_back(&mut self, pool: &mut BufferPool, terms: Terms, work: &mut u32) -> bool {
        let Content::Owned(buffer) = &mut self.content else { return self.empty(pool) };
        let (length, capacity) = (buffer.len(), buffer.capacity());
        let begun_bytes = self.sent_bytes.max(self.begun_bytes as usize);
        let compacted = compact(buffer, begun_bytes, terms);
        let copied = u32::try_from(length / BYTES_PER_WORK).unwrap_or(u32::MAX);
        *work += compacted.packet_count / PACKETS_PER_WORK + copied;
        assert!(compacted.qos0_count <= self.qos0_count);
        self.qos0_count -= compacted.qos0_count;
        if buffer.is_empty() {
            return self.empty(pool);
        }
        if buffer.len() < length {
            buffer.shrink_to_fit();
            pool.note(heap::block(capacity), heap::block(buffer.capacity()));
        }
        compacted.keeps_last
    }
}

/// The result of taking packets out of a piece.
struct Compacted {
    packet_count: u32,
    /// QoS 0 messages that end in the piece and were taken out.
    qos0_count: u32,
    /// Whether the last packet stays.
    keeps_last: bool,
}

/// Takes packets out of a piece, of which `begun_bytes` were sent or encrypted.
fn compact(buffer: &mut Vec<u8>, begun_bytes: usize, terms: Terms) -> Compacted {
    let mut compacted = Compacted { packet_count: 0, qos0_count: 0, keeps_last: true };
    let (mut at, mut kept) = (0, 0);
    while at < buffer.len() {
        let Some((first_byte, packet_bytes)) = packet_at(&buffer[at..]) else {
            unreachable!("a piece holds whole headers");
        };
        let end = at + packet_bytes;
        let here = end.min(buffer.len());
        compacted.packet_count += 1;
        compacted.keeps_last = at < begun_bytes || !terms.takes(first_byte, &buffer[at..here]);
        if compacted.keeps_last {
            buffer.copy_within(at..here, kept);
            kept += here - at;
        } else if end <= buffer.len() {
            compacted.qos0_count += u32::from(is_qos0(first_byte));
        }
        at = here;
    }
    assert!(kept >= begun_bytes.min(buffer.len()));
    buffer.truncate(kept);
    compacted
}

fn is_qos0(first_byte: u8) -> bool {
    first_byte & 0xF6 == 0x30
}

/// Whether a PUBLISH of 5.0 has both a topic and an alias for it.
fn sets_alias(first_byte: u8, packet: &[u8]) -> bool {
    let length_bytes = packet[1..].iter().take(4).take_while(|&&byte| byte & 0x80 != 0).count() + 1;
    match Publish::decode(ProtocolVersion::V5, first_byte, &packet[1 + length_bytes..]) {
        Ok(publish) => publish.topic.is_some() && publish.properties.topic_alias.is_some(),
        // It was encoded here, so it can be read; a packet that cannot be judged stays.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use bytes::Bytes;

    use super::*;

    /// A PUBLISH to "t" whose payload is `number` and padding; the payload may be shared.
    fn publish(
        outbox: &mut Outbox,
        pool: &mut BufferPool,
        number: u32,
        qos: u8,
        (length, is_shared): (usize, bool),
    ) {
        let mut payload = vec![0x55; length.max(4)];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        let head_bytes = 3 + if qos > 0 { 2 } else { 0 };
        let remaining = head_bytes + payload.len();
        let (low, high) = (u8::try_from(remaining % 128).unwrap(), u8::try_from(remaining / 128).unwrap());
        outbox.append(pool, |out| {
            out.push(0x30 | qos << 1);
            if high == 0 {
                out.push(low);
            } else {
                out.extend_from_slice(&[low | 0x80, high]);
            }
            out.extend_from_slice(&[0, 1, b't']);
            out.extend_from_slice(&[0, 9][..if qos > 0 { 2 } else { 0 }]);
            if !is_shared {
                out.extend_from_slice(&payload);
            }
        });
        if is_shared {
            outbox.append_shared(pool, Bytes::from(payload));
        }
        if qos == 0 {
            outbox.count_qos0();
        }
    }

    /// The numbers of the messages in a stream of whole packets, with their QoS.
    fn read(mut bytes: &[u8]) -> Vec<(u32, u8)> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let (first_byte, packet_bytes) = packet_at(bytes).unwrap();
            let qos = first_byte >> 1 & 3;
            let at = packet_bytes_of_head(bytes) + 3 + if qos > 0 { 2 } else { 0 };
            messages.push((u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()), qos));
            bytes = &bytes[packet_bytes..];
        }
        messages
    }

    fn packet_bytes_of_head(bytes: &[u8]) -> usize {
        if bytes[1] & 0x80 == 0 { 2 } else { 3 }
    }

    #[test]
    fn the_stream_stays_whole_wherever_it_is_cut_and_whatever_was_sent() {
        for seed in 0..500_u64 {
            let mut state = seed;
            let mut below = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from((state >> 33) % bound).unwrap()
            };
            let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
            let (mut sent, mut delivered, mut lost, mut published) = (Vec::new(), 0, 0, Vec::new());
            let (mut number, mut begun) = (0, Vec::new());
            for _ in 0..6 {
                for _ in 0..below(30) {
                    let qos = u8::try_from(below(3)).unwrap();
                    publish(&mut outbox, &mut pool, number, qos, (below(90) * below(100), below(4) == 0));
                    published.push((number, qos));
                    number += 1;
                }
                let lent = (below(2) == 0).then(|| outbox.lend()).flatten();
                if below(2) == 0 {
                    let shed = if below(8) == 0 { Shed::All } else { Shed::QoS0 };
                    let terms = Terms::new(shed, below(2) == 0);
                    let mut from_piece = below(3);
                    loop {
                        let taken = outbox.shed(
                            &mut pool,
                            terms,
                            (from_piece, u32::try_from(below(40) + 1).unwrap()),
                        );
                        lost += taken.qos0_count;
                        outbox.check();
                        let Some(next_piece) = taken.next_piece else { break };
                        from_piece = next_piece;
                    }
                }
                if let Some(mut chunk) = lent {
                    assert!(chunk.as_bytes().starts_with(&begun), "{seed}: what was encrypted comes again");
                    let bytes = below(chunk.as_bytes().len() as u64 + 1);
                    begun = chunk.as_bytes()[bytes..].to_vec();
                    begun.truncate(below(begun.len() as u64 + 1));
                    chunk.hold(bytes + begun.len());
                    sent.extend_from_slice(&chunk.as_bytes()[..bytes]);
                    delivered += outbox.give_back(&mut pool, chunk, bytes);
                }
                outbox.check();
                pool.check(outbox.memory_bytes() + pool.kept_bytes());
            }
            while let Some(chunk) = outbox.lend() {
                assert!(chunk.as_bytes().starts_with(&begun), "{seed}: what was encrypted comes again");
                begun.clear();
                let bytes = chunk.as_bytes().len();
                sent.extend_from_slice(chunk.as_bytes());
                delivered += outbox.give_back(&mut pool, chunk, bytes);
            }
            let arrived = read(&sent);
            assert!(arrived.is_sorted(), "{seed}: the order holds");
            let qos0_count = |messages: &[(u32, u8)]| messages.iter().filter(|(_, qos)| *qos == 0).count();
            assert_eq!(delivered as usize, qos0_count(&arrived), "{seed}");
            assert_eq!((delivered + lost) as usize, qos0_count(&published), "{seed}");
            assert!(arrived.iter().all(|message| published.contains(message)));
        }
    }

    #[test]
    fn a_piece_fills_its_buffer_whatever_the_length_of_its_messages() {
        for length in [10, 80, 300, 3_000] {
            let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
            for number in 0..u32::try_from(200_000 / length).unwrap() {
                publish(&mut outbox, &mut pool, number, 0, (length, false));
            }
            let pieces = &outbox.sealed.as_ref().unwrap().pieces;
            assert!(pieces.len() >= 3);
            assert!(pieces.iter().all(|piece| piece.capacity() as usize == PIECE_BYTES), "{length}");
            pool.check(outbox.memory_bytes() + pool.kept_bytes());
        }
    }

    #[test]
    fn only_qos_0_that_the_kernel_has_not_begun_to_take_is_lost() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
        for number in 0..9 {
            publish(&mut outbox, &mut pool, number, u8::from(number % 3 == 1), (10, number == 5));
        }
        let chunk = outbox.lend().unwrap();
        let (sent_bytes, mut sent) = (20, chunk.as_bytes()[..20].to_vec());
        outbox.give_back(&mut pool, chunk, sent_bytes);
        let taken = outbox.shed(&mut pool, Terms::new(Shed::QoS0, false), (0, u32::MAX));
        assert_eq!((taken.qos0_count, taken.next_piece), (5, None));
        while let Some(chunk) = outbox.lend() {
            sent.extend_from_slice(chunk.as_bytes());
            let bytes = chunk.as_bytes().len();
            outbox.give_back(&mut pool, chunk, bytes);
        }
        assert_eq!(read(&sent), [(0, 0), (1, 1), (4, 1), (7, 1)]);
    }

    #[test]
    fn a_connection_that_is_closed_keeps_its_connack_and_what_was_begun() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
        outbox.append(&mut pool, |out| out.extend_from_slice(&[0x20, 3, 0, 0, 0]));
        publish(&mut outbox, &mut pool, 1, 1, (10, false));
        publish(&mut outbox, &mut pool, 2, 0, (10, true));
        let taken = outbox.shed(&mut pool, Terms::new(Shed::All, false), (0, 1));
        assert_eq!((taken.qos0_count, taken.next_piece, outbox.bytes()), (1, None, 5));
        assert_eq!(outbox.lend().unwrap().as_bytes(), [0x20, 3, 0, 0, 0]);
    }
}
