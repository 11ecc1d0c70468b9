//! The end of a session: what it holds is given up piece by piece, since there may be thousands.
//!
//! Invariant: until the last piece is given up, the session counts what is left as in flight or queued. So its ledger balances after
//! every piece.

use super::Session;
use super::grant::{Undelivered, Via};
use super::inflight::Stage;
use crate::memory::Held;
use crate::message::stored::MessageStore;

impl Session {
    /// Whether it has ended: then it is found by nobody, and nothing is delivered to it.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether its queue is full, for which it ends as soon as a step has time.
    pub(crate) fn is_condemned(&self) -> bool {
        !self.has_ended && self.deliveries.as_ref().is_some_and(|deliveries| deliveries.is_condemned)
    }

    /// Puts everything in flight into the order in which it was first sent.
    pub(super) fn begin_giving_up(&mut self, held: &mut Held) {
        if self.deliveries.is_some() {
            self.change_deliveries(held, |deliveries| {
                deliveries.window.rewind();
                deliveries.received = alloc::vec::Vec::new();
            });
        }
    }

    /// Takes out the next message that it had not delivered, or a handshake that was open, in the order in which it was or
    /// would have been sent. The caller takes over the hold, and counts. `None` once nothing is left.
    pub(crate) fn take_undelivered(
        &mut self,
        held: &mut Held,
        messages: &MessageStore,
    ) -> Option<Undelivered> {
        let before = self.delivery_bytes();
        let undelivered = self.take_undelivered_unnoted(messages);
        held.note_deliveries(before, self.delivery_bytes());
        undelivered
    }

    fn take_undelivered_unnoted(&mut self, messages: &MessageStore) -> Option<Undelivered> {
        assert!(self.has_ended);
        let deliveries = self.deliveries.as_mut()?;
        if let Some(packet_id) = deliveries.window.next_resend() {
            let number = deliveries.log_number();
            let via = deliveries.window.former_group(packet_id).map(Via::Former);
            deliveries.window.pop_resend(packet_id);
            let inflight = deliveries.window.finish(packet_id)?;
            let message = match inflight.stage() {
                Stage::Publish(message) => Some(message),
                Stage::Release => None,
            };
            let owed = number.map(|number| (number, inflight.delivery()));
            return Some((message, via.unwrap_or_else(|| inflight.grant().via()), owed));
        }
        assert!(deliveries.window.count() == 0);
        let Some(queued) = deliveries.queue.pop(messages) else {
            self.deliveries = None;
            return None;
        };
        let owed = deliveries.log_number().map(|number| (number, queued.delivery(deliveries.next_delivery)));
        Some((Some(queued.message), queued.grant.via(), owed))
    }

    /// Forgets one of its replays; `false` once none is left.
    pub(crate) fn forget_replay(&mut self, held: &mut Held) -> bool {
        assert!(self.has_ended);
        let Some(replays) = &mut self.replays else { return false };
        let was_there = replays.forget_one();
        if was_there {
            self.note_replays(held);
        } else {
            self.forget_replays(held);
        }
        was_there
    }
}
