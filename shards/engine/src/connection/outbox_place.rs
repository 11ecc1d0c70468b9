//! The place of an outbox in its connection. Most connections have nothing to send, so each has a pointer only, and the
//! outboxes themselves go from one connection to the next: the few that a shard needs at a time stay in the caches.
//!
//! Invariant: a connection has an outbox while bytes wait or a piece is lent, and at no other time.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::outbox::{BufferPool, Chunk, Outbox};
use crate::base::heap;
use crate::base::ids::SessionId;

/// Empty outboxes that are kept for reuse.
const OUTBOXES_KEPT: usize = 16 * 1024;

/// Empty outboxes that the connections of a shard share.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "a connection takes the box, whose lines are in the caches, without a copy"
)]
pub(super) struct SpareOutboxes {
    boxes: Vec<Box<OwnedOutbox>>,
    /// Outboxes that there are, in connections and here.
    count: u64,
}

impl SpareOutboxes {
    /// Bytes of all outboxes, without those that they hold.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.count * heap::block(size_of::<OwnedOutbox>())
            + heap::block(self.boxes.capacity() * size_of::<Box<OwnedOutbox>>())
    }

    fn place<'a>(&mut self, place: &'a mut OutboxPlace) -> &'a mut Outbox {
        let place = place.0.get_or_insert_with(|| {
            self.boxes.pop().unwrap_or_else(|| {
                self.count += 1;
                Box::default()
            })
        });
        &mut place.outbox
    }

    /// Takes an outbox that is empty out of its place.
    #[inline]
    pub(super) fn take_back(&mut self, pool: &mut BufferPool, place: &mut OutboxPlace) {
        let Some(outbox) = place.0.take() else { return };
        assert!(outbox.outbox.bytes() == 0);
        if self.boxes.len() < OUTBOXES_KEPT {
            self.boxes.push(outbox);
        } else {
            self.drop_one(pool, outbox);
        }
    }

    #[cold]
    fn drop_one(&mut self, pool: &mut BufferPool, mut outbox: Box<OwnedOutbox>) {
        let _nothing = outbox.outbox.abandon(pool);
        self.count -= 1;
    }

    /// Compares their number with that of the connections that have one, for an audit. Returns the bytes that the spare ones hold.
    ///
    /// # Panics
    /// If they differ.
    pub(super) fn check(&self, in_use_count: u64) -> u64 {
        assert!(self.count == in_use_count + self.boxes.len() as u64);
        self.boxes.iter().map(|outbox| outbox.outbox.memory_bytes()).sum()
    }
}

/// An outbox, and the session whose QoS 0 messages are in it: they may outlive the connection's phase.
#[derive(Debug, Default)]
struct OwnedOutbox {
    outbox: Outbox,
    owner: Option<SessionId>,
}

/// **Lives on:** the connection's shard. The verbs are those of [`Outbox`].
#[derive(Debug, Default)]
pub(super) struct OutboxPlace(Option<Box<OwnedOutbox>>);

const _: () = assert!(size_of::<OutboxPlace>() == 8);

impl OutboxPlace {
    pub(super) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |owned| owned.outbox.bytes())
    }

    pub(super) fn qos0_count(&self) -> u32 {
        self.0.as_ref().map_or(0, |owned| owned.outbox.qos0_count())
    }

    pub(super) fn is_lent(&self) -> bool {
        self.0.as_ref().is_some_and(|owned| owned.outbox.is_lent())
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |owned| owned.outbox.memory_bytes())
    }

    /// The session whose QoS 0 messages are in it, if there are any.
    pub(super) fn owner(&self) -> Option<SessionId> {
        self.0.as_ref()?.owner
    }

    /// The outbox, if it has one.
    pub(super) fn outbox_mut(&mut self) -> Option<&mut Outbox> {
        Some(&mut self.0.as_mut()?.outbox)
    }

    /// Whether it has an outbox now.
    pub(super) fn is_taken(&self) -> bool {
        self.0.is_some()
    }

    #[inline]
    pub(super) fn append(
        &mut self,
        spare: &mut SpareOutboxes,
        pool: &mut BufferPool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> u64 {
        let appended = spare.place(self).append(pool, write);
        if appended == 0 {
            self.take_back_unused(spare, pool);
        }
        appended
    }

    /// Nothing was appended.
    #[cold]
    fn take_back_unused(&mut self, spare: &mut SpareOutboxes, pool: &mut BufferPool) {
        if self.bytes() == 0 {
            spare.take_back(pool, self);
        }
    }

    pub(super) fn append_shared(&mut self, spare: &mut SpareOutboxes, pool: &mut BufferPool, bytes: Bytes) {
        spare.place(self).append_shared(pool, bytes);
    }

    /// The message, one of `owner`, was appended just now, so there is an outbox.
    pub(super) fn count_qos0(&mut self, owner: Option<SessionId>) {
        if let Some(owned) = &mut self.0 {
            owned.outbox.count_qos0();
            owned.owner = owner;
        }
    }

    /// # Panics
    /// While a piece is lent.
    pub(super) fn lend(&mut self) -> Option<Chunk> {
        self.0.as_mut()?.outbox.lend()
    }

    /// # Panics
    /// If nothing was lent or more was sent than lent.
    #[inline]
    pub(super) fn give_back(
        &mut self,
        spare: &mut SpareOutboxes,
        pool: &mut BufferPool,
        chunk: Chunk,
        sent_bytes: usize,
    ) -> (Option<SessionId>, u32) {
        let Some(owned) = &mut self.0 else { unreachable!("nothing was lent") };
        let delivered = owned.outbox.give_back(pool, chunk, sent_bytes);
        let owner = owned.owner;
        if owned.outbox.bytes() == 0 {
            spare.take_back(pool, self);
        }
        (owner, delivered)
    }

    pub(super) fn abandon(&mut self, spare: &mut SpareOutboxes, pool: &mut BufferPool) -> (u32, u32) {
        let abandoned = self.0.as_mut().map_or((0, 0), |owned| owned.outbox.abandon(pool));
        spare.take_back(pool, self);
        abandoned
    }

    /// # Panics
    /// If a count is wrong, or it has an outbox for nothing.
    pub(super) fn check(&self) {
        if let Some(owned) = &self.0 {
            owned.outbox.check();
            assert!(owned.outbox.bytes() > 0);
            assert!(owned.outbox.qos0_count() == 0 || owned.owner.is_some());
        }
    }
}
