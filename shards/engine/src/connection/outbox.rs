//! The bytes that wait to be sent to one peer. The host borrows them piece by piece.
//!
//! Invariants worth naming:
//! - At most one piece is lent, and pieces leave in the order in which their bytes were appended.
//! - A QoS 0 message counts in the piece that holds its last byte, so it is delivered once the kernel has that piece. In a piece that
//!   was sent in part, the fixed headers show which messages the kernel has in full.
//! - An idle connection owns no buffer: a buffer that was sent goes back to the pool of the shard.

// Named, because `bench/micro` has this file as a module of its own.
#[path = "outbox/payloads.rs"]
mod payloads;
#[path = "outbox/shed.rs"]
pub(crate) mod shed;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::heap;

use payloads::{Payloads, SharedPayload};
use shed::Watch;

/// Bytes of the buffers kept for reuse by all outboxes of a shard, at most.
const BYTES_KEPT_MAX: u64 = 16 * 1024 * 1024;
/// The part of the ceiling on memory that they may be.
const KEPT_PART: u64 = 16;
/// Bytes of them that are kept even if nobody uses them.
const BYTES_RESERVED: usize = 1024 * 1024;
/// Buffers that one trim frees, so that it takes little time.
const BUFFERS_TRIMMED_MAX: usize = 1024;
/// A larger buffer goes back to the allocator.
const BUFFER_BYTES_KEPT: usize = 2 * PIECE_BYTES;
/// Bytes of a piece. A buffer that grows without bound is copied each time it doubles, and the system has to find its pages anew for
/// every burst.
const PIECE_BYTES: usize = 64 * 1024;
/// A tail of this length is sealed, and the next bytes begin another piece: one more short message would double its buffer.
const SEALED_BYTES: usize = PIECE_BYTES - 6 * 1024;

/// Empty buffers that the outboxes of a shard share, so that an idle connection owns none.
#[derive(Debug)]
pub(crate) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    /// Capacity of `buffers`.
    bytes: usize,
    /// The least that `bytes` was since the last trim: nobody needed these.
    bytes_unused: usize,
    bytes_max: u64,
    /// Bytes that all outboxes and `buffers` take: buffers, lists of pieces, and payloads. A buffer that goes from one to the other
    /// changes nothing.
    memory_bytes: u64,
    payloads: Payloads,
}

impl BufferPool {
    /// Empty, under a ceiling on all memory; 0 is none.
    pub(crate) fn new(memory_bytes_max: u64) -> Self {
        let bytes_max = BYTES_KEPT_MAX.min(memory_bytes_max.wrapping_sub(1) / KEPT_PART);
        Self {
            buffers: Vec::new(),
            bytes: 0,
            bytes_unused: 0,
            bytes_max,
            memory_bytes: 0,
            payloads: Payloads::new(),
        }
    }

    /// Bytes that all outboxes of the shard take, the buffers kept for them included.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let list = heap::block(self.buffers.capacity() * size_of::<Vec<u8>>());
        self.memory_bytes + list + self.payloads.table_bytes()
    }

    /// The same without the list of buffers and the table of payloads.
    #[inline]
    pub(crate) fn buffer_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Compares its bytes with those that all outboxes and its own buffers take, for an audit.
    ///
    /// # Panics
    /// If they differ.
    pub(crate) fn check(&self, memory_bytes: u64) {
        assert!(self.memory_bytes == memory_bytes);
        assert!(self.bytes == self.buffers.iter().map(Vec::capacity).sum::<usize>());
    }

    /// Bytes of the buffers kept and of all payloads, for an audit.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.payloads.check() + self.buffers.iter().map(|buffer| heap::block(buffer.capacity())).sum::<u64>()
    }

    fn note(&mut self, before: u64, after: u64) {
        assert!(self.memory_bytes >= before);
        self.memory_bytes = self.memory_bytes - before + after;
    }

    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        self.bytes_unused = self.bytes_unused.min(self.bytes);
        buffer
    }

    /// Frees half of the buffers that nobody needed since the last call, down to a reserve.
    pub(super) fn trim(&mut self) {
        let kept = self.bytes - self.bytes_unused.saturating_sub(BYTES_RESERVED).div_ceil(2);
        for _ in 0..BUFFERS_TRIMMED_MAX {
            if self.bytes <= kept {
                break;
            }
            let buffer = self.buffers.pop().unwrap_or_default();
            self.bytes -= buffer.capacity();
            self.note(heap::block(buffer.capacity()), 0);
        }
        self.buffers.shrink_to(2 * self.buffers.len());
        self.bytes_unused = self.bytes;
    }

    #[inline]
    fn put(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if (self.bytes + bytes) as u64 <= self.bytes_max && (1..=BUFFER_BYTES_KEPT).contains(&bytes) {
            buffer.clear();
            self.bytes += bytes;
            self.buffers.push(buffer);
        } else {
            self.note(heap::block(bytes), 0);
        }
    }
}

#[derive(Debug)]
enum Content {
    Owned(Vec<u8>),
    Shared(SharedPayload),
}

impl Content {
    /// Gives the memory back: a buffer to the pool, a payload to its other holders.
    #[inline]
    fn release(self, pool: &mut BufferPool) {
        match self {
            Self::Owned(buffer) => pool.put(buffer),
            Self::Shared(payload) => {
                let freed = pool.payloads.release(payload);
                pool.note(freed, 0);
            }
        }
    }
}

/// A piece of an outbox, lent to the host to be sent.
#[derive(Debug)]
pub struct Chunk {
    content: Content,
    sent_bytes: usize,
    /// Bytes from its beginning that must come again as they are, if they were not sent.
    begun_bytes: u32,
    /// QoS 0 messages that end in it. They are delivered once the kernel has all of it.
    qos0_count: u32,
}

impl Chunk {
    /// The bytes that are left to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.whole()[self.sent_bytes..]
    }

    /// The host has begun with the first `bytes` of [`Chunk::as_bytes`]: as they were encrypted, they come again.
    ///
    /// # Panics
    /// If there are fewer bytes.
    pub fn hold(&mut self, bytes: usize) {
        assert!(bytes <= self.as_bytes().len());
        self.begun_bytes = u32::try_from(self.sent_bytes + bytes).unwrap_or(u32::MAX);
    }

    fn whole(&self) -> &[u8] {
        match &self.content {
            Content::Owned(bytes) => bytes,
            Content::Shared(payload) => payload.bytes(),
        }
    }

    /// Capacity of its buffer. A payload counts with those that share it.
    fn capacity(&self) -> u32 {
        let bytes = match &self.content {
            Content::Owned(buffer) => buffer.capacity(),
            Content::Shared(_) => 0,
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Bytes that its buffer takes.
    fn memory_bytes(&self) -> u64 {
        heap::block(self.capacity() as usize)
    }

    /// QoS 0 messages of which the kernel has every byte, in a chunk that was sent in part.
    fn qos0_sent(&self) -> u32 {
        let sent = match &self.content {
            Content::Owned(bytes) => &bytes[..self.sent_bytes],
            // A shared payload ends its message with its last byte, which was not sent.
            Content::Shared(_) => return 0,
        };
        let mut count = 0;
        let mut at = 0;
        while let Some((first_byte, packet_bytes)) = packet_at(&sent[at..]) {
            at += packet_bytes;
            if at > sent.len() {
                break;
            }
            if first_byte & 0xF6 == 0x30 {
                count += 1;
            }
        }
        count.min(self.qos0_count)
    }
}

/// The first byte of a packet and its length on the wire; `None` if its fixed header is incomplete.
fn packet_at(bytes: &[u8]) -> Option<(u8, usize)> {
    let (&first_byte, length) = bytes.split_first()?;
    let mut remaining = 0;
    for (at, &byte) in length.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((first_byte, 1 + at + 1 + remaining));
        }
    }
    None
}

/// The answer to asking an outbox for bytes.
#[derive(Debug)]
pub enum Lend {
    /// Send this and give it back.
    Chunk(Chunk),
    /// Nothing to send; the next bytes come with an [`crate::Action::Flush`].
    Idle,
    /// Everything was sent and the connection is to be closed.
    Close,
}

/// The part of an outbox before its tail.
#[derive(Debug, Default)]
struct Sealed {
    pieces: VecDeque<Chunk>,
    watch: Watch,
}

/// **Lives on:** the connection's shard. Bounded by the caller: see `Limits::outbox_bytes_max`.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    tail: Vec<u8>,
    /// Only slow readers and large payloads have it, so it takes one word of the others.
    sealed: Option<Box<Sealed>>,
    bytes: u64,
    tail_qos0_count: u32,
    qos0_count: u32,
    lent: bool,
    /// Capacity of the buffer that is lent, for an audit.
    lent_capacity: u32,
}

impl Outbox {
    /// Bytes not yet accepted by the kernel, lent ones included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// QoS 0 messages not yet accepted by the kernel.
    pub(crate) fn qos0_count(&self) -> u32 {
        self.qos0_count
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Appends the bytes that `write` appends. Returns how many.
    pub(crate) fn append(&mut self, pool: &mut BufferPool, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        if self.tail.len() >= SEALED_BYTES {
            self.seal(pool);
        }
        if self.tail.capacity() == 0 {
            self.tail = pool.take();
        }
        let (before, capacity) = (self.tail.len(), self.tail.capacity());
        write(&mut self.tail);
        assert!(self.tail.len() >= before);
        let appended = (self.tail.len() - before) as u64;
        self.bytes += appended;
        if self.tail.capacity() != capacity {
            self.round_capacity();
            pool.note(heap::block(capacity), heap::block(self.tail.capacity()));
        }
        appended
    }

    /// Appends shared bytes without copying them; they end a packet whose head was appended before.
    pub(crate) fn append_shared(&mut self, pool: &mut BufferPool, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        self.seal(pool);
        let (payload, grown) = pool.payloads.hold(bytes);
        pool.note(0, grown);
        let chunk = Chunk { content: Content::Shared(payload), sent_bytes: 0, begun_bytes: 0, qos0_count: 0 };
        self.change_sealed(pool, |sealed| sealed.pieces.push_back(chunk));
    }

    /// Bytes that it takes, without payloads that it shares: for an audit.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let sealed = self.sealed.iter().flat_map(|sealed| &sealed.pieces);
        let lent = if self.lent { heap::block(self.lent_capacity as usize) } else { 0 };
        heap::block(self.tail.capacity())
            + sealed.map(Chunk::memory_bytes).sum::<u64>()
            + self.list_bytes()
            + lent
    }

    /// Counts a QoS 0 message whose last byte was appended just now.
    pub(crate) fn count_qos0(&mut self) {
        self.qos0_count += 1;
        match self.sealed.as_mut().and_then(|sealed| sealed.pieces.back_mut()) {
            Some(last) if self.tail.is_empty() => last.qos0_count += 1,
            Some(_) | None => self.tail_qos0_count += 1,
        }
    }

    /// The next piece to send; `None` if there is none.
    ///
    /// # Panics
    /// While a piece is lent.
    pub(crate) fn lend(&mut self) -> Option<Chunk> {
        assert!(!self.lent);
        let chunk = match self.sealed.as_mut().and_then(|sealed| sealed.pieces.pop_front()) {
            Some(chunk) => chunk,
            None if self.tail.is_empty() => {
                assert!(self.bytes == 0);
                return None;
            }
            None => Chunk {
                content: Content::Owned(core::mem::take(&mut self.tail)),
                sent_bytes: 0,
                begun_bytes: 0,
                qos0_count: core::mem::take(&mut self.tail_qos0_count),
            },
        };
        self.lent = true;
        self.lent_capacity = chunk.capacity();
        Some(chunk)
    }

    /// Takes a lent piece back, of which `sent_bytes` more were accepted by the kernel. Returns the QoS 0
    /// messages that this completed.
    ///
    /// # Panics
    /// If nothing was lent or more was sent than lent.
    pub(crate) fn give_back(&mut self, pool: &mut BufferPool, mut chunk: Chunk, sent_bytes: usize) -> u32 {
        assert!(self.lent);
        self.lent = false;
        assert!(sent_bytes <= chunk.as_bytes().len());
        chunk.sent_bytes += sent_bytes;
        self.bytes -= sent_bytes as u64;
        if !chunk.as_bytes().is_empty() {
            self.change_sealed(pool, |sealed| {
                sealed.pieces.push_front(chunk);
                sealed.watch.note_sent(sent_bytes);
            });
            return 0;
        }
        self.qos0_count -= chunk.qos0_count;
        chunk.content.release(pool);
        if let Some(sealed) = &mut self.sealed {
            sealed.watch.note_sent(sent_bytes);
            self.forget_empty_list(pool);
        }
        chunk.qos0_count
    }

    /// Gives up the bytes that were not sent. Returns the QoS 0 messages of which the kernel had every byte, and
    /// the ones that are lost.
    pub(crate) fn abandon(&mut self, pool: &mut BufferPool) -> (u32, u32) {
        assert!(!self.lent);
        let sent = self.sealed.as_ref().and_then(|sealed| sealed.pieces.front()).map_or(0, Chunk::qos0_sent);
        assert!(sent <= self.qos0_count);
        let lost = self.qos0_count - sent;
        pool.put(core::mem::take(&mut self.tail));
        pool.note(self.list_bytes(), 0);
        for chunk in self.sealed.take().into_iter().flat_map(|sealed| sealed.pieces) {
            chunk.content.release(pool);
        }
        *self = Self::default();
        (sent, lost)
    }

    /// Recomputes its counts from its pieces, of which a lent one is not here: for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self) {
        let sealed = || self.sealed.iter().flat_map(|sealed| &sealed.pieces);
        let bytes = self.tail.len() + sealed().map(|chunk| chunk.as_bytes().len()).sum::<usize>();
        self.check_watch();
        let qos0_count = self.tail_qos0_count + sealed().map(|chunk| chunk.qos0_count).sum::<u32>();
        assert!(bytes as u64 == self.bytes || (self.lent && (bytes as u64) < self.bytes));
        assert!(qos0_count == self.qos0_count || (self.lent && qos0_count < self.qos0_count));
    }

    /// Closes the tail, so that the next bytes begin a piece of their own.
    fn seal(&mut self, pool: &mut BufferPool) {
        if self.tail.is_empty() {
            return;
        }
        let chunk = Chunk {
            content: Content::Owned(core::mem::take(&mut self.tail)),
            sent_bytes: 0,
            begun_bytes: 0,
            qos0_count: core::mem::take(&mut self.tail_qos0_count),
        };
        self.change_sealed(pool, |sealed| sealed.pieces.push_back(chunk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(outbox: &mut Outbox, pool: &mut BufferPool, payload: u8) {
        // QoS 0 PUBLISH to "t" with one byte of payload: 6 bytes.
        outbox.append(pool, |out| out.extend_from_slice(&[0x30, 4, 0, 1, b't', payload]));
        outbox.count_qos0();
    }

    #[test]
    fn what_was_sent_in_part_comes_first_and_order_holds() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
        publish(&mut outbox, &mut pool, 1);
        let chunk = outbox.lend().unwrap();
        publish(&mut outbox, &mut pool, 2);
        assert_eq!(outbox.give_back(&mut pool, chunk, 4), 0);
        let chunk = outbox.lend().unwrap();
        assert_eq!(chunk.as_bytes(), [b't', 1]);
        assert_eq!(outbox.give_back(&mut pool, chunk, 2), 1);
        let chunk = outbox.lend().unwrap();
        assert_eq!(chunk.as_bytes()[5], 2);
        assert_eq!(outbox.give_back(&mut pool, chunk, 6), 1);
        assert!(outbox.lend().is_none());
        assert_eq!((outbox.bytes(), outbox.qos0_count()), (0, 0));
    }

    #[test]
    fn a_shared_payload_keeps_its_place_and_ends_its_message() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
        outbox.append(&mut pool, |out| out.extend_from_slice(&[0x30, 6, 0, 1, b't']));
        outbox.append_shared(&mut pool, Bytes::from_static(b"abc"));
        outbox.count_qos0();
        publish(&mut outbox, &mut pool, 9);
        let mut counts = Vec::new();
        let mut all = Vec::new();
        while let Some(chunk) = outbox.lend() {
            let bytes = chunk.as_bytes().len();
            all.extend_from_slice(chunk.as_bytes());
            counts.push(outbox.give_back(&mut pool, chunk, bytes));
        }
        assert_eq!(all, b"\x30\x06\x00\x01tabc\x30\x04\x00\x01t\x09");
        assert_eq!(counts, [0, 1, 1]);
    }

    #[test]
    fn abandoning_tells_delivered_from_lost_at_the_byte() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
        for payload in 0..5 {
            publish(&mut outbox, &mut pool, payload);
        }
        let chunk = outbox.lend().unwrap();
        outbox.give_back(&mut pool, chunk, 17);
        assert_eq!(outbox.abandon(&mut pool), (2, 3));
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn the_pool_gives_back_what_nobody_needs_and_keeps_what_is_in_use() {
        let mut pool = BufferPool::new(0);
        for _ in 0..200 {
            pool.note(0, heap::block(PIECE_BYTES));
            pool.put(Vec::with_capacity(PIECE_BYTES));
        }
        assert_eq!(pool.bytes, 200 * PIECE_BYTES);
        // The first trim only begins to look.
        pool.trim();
        assert_eq!(pool.bytes, 200 * PIECE_BYTES);
        // 150 are in use again and again, and the other 50 are not.
        for _ in 0..20 {
            let taken: Vec<_> = (0..150).map(|_| pool.take()).collect();
            for buffer in taken {
                pool.put(buffer);
            }
            pool.trim();
        }
        let in_use = 150 * PIECE_BYTES;
        assert!((in_use..=in_use + BYTES_RESERVED + PIECE_BYTES).contains(&pool.bytes), "{}", pool.bytes);
        for _ in 0..20 {
            pool.trim();
        }
        assert!(pool.bytes <= BYTES_RESERVED + PIECE_BYTES && pool.buffers.capacity() <= 40);
        pool.check(pool.kept_bytes());
    }
}
