//! The in-flight window of one session: QoS 1 and 2 messages that were sent and are not acknowledged to their end.
//!
//! Invariants: the slot of a Packet Identifier is one less than its number, so an
//! acknowledgement finds its message without a search; and
//! `count` is the number of taken slots, so a full window is seen without a walk.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use wire::{PacketId, QoS};

use super::grant::Grant;
use crate::base::heap;
use crate::base::ids::MessageKey;
use crate::topic::groups::GroupTag;

/// Slots a window starts with: enough that a Packet Identifier is not used again at once.
const WINDOW_SLOTS_MIN: usize = 16;

/// How far the delivery of an in-flight message has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// PUBLISH is out, PUBACK or PUBREC is due. Holds the message.
    Publish(MessageKey),
    /// PUBREC came, PUBREL is out, PUBCOMP is due [MQTT-4.3.3-4].
    Release,
}

/// One message in flight.
#[derive(Debug)]
pub(crate) struct Inflight {
    stage: Stage,
    grant: Grant,
    /// Its PUBLISH went out on this connection and counts against the client's Receive Maximum until the
    /// delivery ends [MQTT-3.3.4-9].
    holds_quota: bool,
    /// The order in which it was first sent. Redelivery keeps it [MQTT-4.6.0-1].
    sequence: u64,
}

impl Inflight {
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    pub(crate) fn holds_quota(&self) -> bool {
        self.holds_quota
    }

    /// PUBREC came: the message itself is not needed any more.
    pub(crate) fn release(&mut self) {
        assert!(self.grant.qos == QoS::ExactlyOnce && self.stage != Stage::Release);
        self.stage = Stage::Release;
    }

    /// Its PUBLISH went out again.
    pub(crate) fn take_quota(&mut self) {
        assert!(!self.holds_quota);
        self.holds_quota = true;
    }
}

/// **Lives on:** the session's shard, from its first QoS 1 or 2 message on. At most `Limits::inflight_max` messages.
#[derive(Debug, Default)]
pub(crate) struct Window {
    slots: Vec<Option<Inflight>>,
    /// Where the search for an unused Packet Identifier starts.
    cursor: usize,
    count: u16,
    sequence: u64,
    /// Packet Identifiers to be sent again on this connection, oldest first [MQTT-4.4.0-1].
    resend: VecDeque<PacketId>,
    /// QoS 1 messages in flight that came by a group which the session has left since, with the group's key: their
    /// delivery is completed all the same [MQTT-3.10.4-3].
    former_groups: BTreeMap<PacketId, u64>,
    /// Bytes of grants beside their slots.
    grant_bytes: u64,
}

impl Window {
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Whether a message with this grant takes no memory but an unused slot.
    pub(super) fn has_slot_for(&self, grant: &Grant) -> bool {
        usize::from(self.count) < self.slots.len() && grant.heap_bytes() == 0
    }

    /// Bytes that it takes beside its own struct and its messages. Groups that the session has left count nothing: few remember
    /// one.
    pub(super) fn heap_bytes(&self) -> u64 {
        heap::block(self.slots.capacity() * size_of::<Option<Inflight>>())
            + heap::block(self.resend.capacity() * size_of::<PacketId>())
            + self.grant_bytes
    }

    /// Takes the next unused Packet Identifier for a message that is sent now [MQTT-2.2.1-4].
    ///
    /// # Panics
    /// If 65 535 messages are in flight; the caller compares [`Window::count`] with its bound first.
    pub(crate) fn start(&mut self, stage: Stage, mut grant: Grant) -> PacketId {
        assert!(grant.qos != QoS::AtMostOnce);
        if grant.qos == QoS::ExactlyOnce {
            // From now on no other member may receive it [MQTT-4.8.2-5].
            grant.group = None;
        }
        if usize::from(self.count) == self.slots.len() {
            let slots = (self.slots.len() * 2).clamp(WINDOW_SLOTS_MIN, usize::from(u16::MAX));
            assert!(slots > self.slots.len());
            self.cursor = self.slots.len();
            self.slots.resize_with(slots, || None);
        }
        while self.slots[self.cursor].is_some() {
            self.cursor = (self.cursor + 1) % self.slots.len();
        }
        self.grant_bytes += grant.heap_bytes();
        let index = self.cursor;
        self.slots[index] = Some(Inflight { stage, grant, holds_quota: true, sequence: self.sequence });
        self.sequence += 1;
        self.count += 1;
        self.cursor = (self.cursor + 1) % self.slots.len();
        let packet_id = u16::try_from(index + 1).ok().and_then(PacketId::new);
        packet_id.expect("a window has at most 65 535 slots")
    }

    pub(crate) fn get(&self, packet_id: PacketId) -> Option<&Inflight> {
        self.slots.get(usize::from(packet_id.get()) - 1)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, packet_id: PacketId) -> Option<&mut Inflight> {
        self.slots.get_mut(usize::from(packet_id.get()) - 1)?.as_mut()
    }

    /// Ends a delivery: its Packet Identifier is unused again.
    pub(crate) fn finish(&mut self, packet_id: PacketId) -> Option<Inflight> {
        let inflight = self.slots.get_mut(usize::from(packet_id.get()) - 1)?.take()?;
        assert!(self.count > 0);
        self.count -= 1;
        self.grant_bytes -= inflight.grant.heap_bytes();
        if !self.former_groups.is_empty() {
            self.former_groups.remove(&packet_id);
        }
        Some(inflight)
    }

    /// Begins redelivery on a new connection: everything in flight is sent again in its first order, and each PUBREL
    /// before any PUBLISH, since only a PUBLISH waits for quota [MQTT-3.3.4-10].
    pub(crate) fn rewind(&mut self) {
        let mut order: Vec<(bool, u64, PacketId)> = Vec::with_capacity(usize::from(self.count));
        for (packet_id, slot) in packet_ids().zip(&mut self.slots) {
            if let Some(inflight) = slot {
                inflight.holds_quota = false;
                order.push((inflight.stage != Stage::Release, inflight.sequence, packet_id));
            }
        }
        assert!(order.len() == usize::from(self.count));
        order.sort_unstable();
        self.resend.clear();
        self.resend.extend(order.into_iter().map(|(_, _, packet_id)| packet_id));
    }

    /// The next Packet Identifier to be sent again. One that was acknowledged before its turn is passed over.
    pub(crate) fn next_resend(&mut self) -> Option<PacketId> {
        while let Some(&packet_id) = self.resend.front() {
            if self.get(packet_id).is_some() {
                return Some(packet_id);
            }
            self.resend.pop_front();
        }
        None
    }

    /// The first Packet Identifier to be sent again was sent, or given up.
    pub(crate) fn pop_resend(&mut self, packet_id: PacketId) {
        let first = self.resend.pop_front();
        assert!(first == Some(packet_id));
    }

    pub(crate) fn has_resend(&self) -> bool {
        !self.resend.is_empty()
    }

    /// The session leaves groups: messages in flight stay with it, and their groups are remembered. `key_of` names the
    /// groups that it leaves.
    pub(crate) fn leave_groups(&mut self, key_of: impl Fn(GroupTag) -> Option<u64>) {
        for (packet_id, slot) in packet_ids().zip(&mut self.slots) {
            if let Some(inflight) = slot
                && let Some(key) = inflight.grant.group.and_then(&key_of)
            {
                inflight.grant.group = None;
                let other = self.former_groups.insert(packet_id, key);
                assert!(other.is_none());
            }
        }
        assert!(self.former_groups.len() <= usize::from(self.count));
    }

    /// The key of the group by which a message came that its session has left since.
    pub(crate) fn former_group(&self, packet_id: PacketId) -> Option<u64> {
        self.former_groups.get(&packet_id).copied()
    }

    /// Messages that hold send quota of the connection, for an audit.
    pub(crate) fn quota_held(&self) -> usize {
        self.iter().filter(|inflight| inflight.holds_quota).count()
    }

    /// Recomputes what is kept beside the slots, for an audit.
    ///
    /// # Panics
    /// If some of it is wrong.
    pub(crate) fn check(&self) {
        assert!(self.iter().count() == usize::from(self.count));
        assert!(self.iter().map(|inflight| inflight.grant.heap_bytes()).sum::<u64>() == self.grant_bytes);
        assert!(self.iter().all(|inflight| inflight.sequence < self.sequence));
        for &packet_id in self.former_groups.keys() {
            assert!(self.get(packet_id).is_some_and(|inflight| inflight.grant.group.is_none()));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Inflight> {
        self.slots.iter().flatten()
    }
}

/// Every Packet Identifier, in order.
fn packet_ids() -> impl Iterator<Item = PacketId> {
    (1u16..=u16::MAX).filter_map(PacketId::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::grant::Identifiers;

    fn grant() -> Grant {
        Grant { qos: QoS::ExactlyOnce, retain: false, group: None, identifiers: Identifiers::None }
    }

    #[test]
    fn packet_identifiers_are_never_zero_never_used_twice_and_come_back() {
        let mut window = Window::default();
        let mut seen = alloc::vec![false; 65_536];
        for _ in 0..65_535 {
            let id = window.start(Stage::Release, grant()).get();
            assert!(!core::mem::replace(&mut seen[usize::from(id)], true));
        }
        assert!(!seen[0]);
        assert_eq!(window.count(), u16::MAX);
        let id = PacketId::new(777).unwrap();
        assert!(window.finish(id).is_some());
        assert!(window.finish(id).is_none());
        assert_eq!(window.start(Stage::Release, grant()), id);
    }

    #[test]
    fn a_rewind_keeps_the_order_of_first_sending() {
        let mut window = Window::default();
        let ids: Vec<_> = (0..20).map(|_| window.start(Stage::Release, grant())).collect();
        for id in &ids[..10] {
            window.finish(*id);
        }
        let later: Vec<_> = (0..30).map(|_| window.start(Stage::Release, grant())).collect();
        window.rewind();
        let expected: Vec<_> = ids[10..].iter().chain(&later).copied().collect();
        let mut resent = Vec::new();
        while let Some(id) = window.next_resend() {
            window.pop_resend(id);
            resent.push(id);
        }
        assert_eq!(resent, expected);
    }
}
