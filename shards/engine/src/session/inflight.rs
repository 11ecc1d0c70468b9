//! The in-flight window of one session: QoS 1 and 2 messages that were sent and are not acknowledged to their end.
//!
//! Invariants: every delivery of a session that is tracked has a number, which grows by one, and its Packet Identifier follows from
//! that. So the messages in flight stand in the order in which they were first sent, an identifier finds its message without a
//! table, and a delivery that outlived the process has the identifier that it had before.

use alloc::collections::{BTreeMap, VecDeque};

use wire::{PacketId, QoS};

use super::grant::Grant;
use crate::base::heap;
use crate::base::ids::MessageKey;
use crate::topic::groups::GroupTag;

/// Messages that a window has room for at first.
const WINDOW_SLOTS_MIN: usize = 16;
/// Packet Identifiers there are.
const PACKET_IDS: u64 = u16::MAX as u64;

/// Whether a delivery and the oldest in flight, and so all between them, have packet identifiers of their own.
pub(super) fn have_own_ids(oldest: u64, delivery: u64) -> bool {
    delivery - oldest < PACKET_IDS
}

/// The Packet Identifier of a delivery.
pub(crate) fn packet_id_of(delivery: u64) -> PacketId {
    let id = u16::try_from(1 + delivery % PACKET_IDS).ok().and_then(PacketId::new);
    id.expect("it is between 1 and 65 535")
}

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
    /// Its place in the sequence of the session.
    delivery: u64,
    packet_id: PacketId,
    /// Its PUBLISH went out on this connection and counts against the client's Receive Maximum until the
    /// delivery ends [MQTT-3.3.4-9].
    holds_quota: bool,
    /// PUBREC is not durable yet, and PUBREL waits for that.
    is_release_held: bool,
}

// Every message in flight is one.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Inflight>() == 56);

impl Inflight {
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    pub(crate) fn delivery(&self) -> u64 {
        self.delivery
    }

    pub(crate) fn packet_id(&self) -> PacketId {
        self.packet_id
    }

    pub(crate) fn holds_quota(&self) -> bool {
        self.holds_quota
    }

    pub(crate) fn is_release_held(&self) -> bool {
        self.is_release_held
    }

    /// PUBREC came: the message itself is not needed any more. PUBREL may be held until that is durable.
    pub(crate) fn release(&mut self, is_held: bool) {
        assert!(self.grant.qos == QoS::ExactlyOnce && self.stage != Stage::Release);
        self.stage = Stage::Release;
        self.is_release_held = is_held;
    }

    /// PUBREC is durable.
    pub(crate) fn let_release_go(&mut self) {
        assert!(self.stage == Stage::Release && self.is_release_held);
        self.is_release_held = false;
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
    /// In the order of their deliveries.
    messages: VecDeque<Inflight>,
    /// Packet Identifiers to be sent again on this connection, oldest first [MQTT-4.4.0-1].
    resend: VecDeque<PacketId>,
    /// QoS 1 messages in flight that came by a group which the session has left since, with the group's key: their
    /// delivery is completed all the same [MQTT-3.10.4-3].
    former_groups: BTreeMap<PacketId, u64>,
    /// Bytes of grants beside their messages.
    grant_bytes: u64,
}

impl Window {
    pub(crate) fn count(&self) -> u16 {
        // There are no more Packet Identifiers than that.
        u16::try_from(self.messages.len()).unwrap_or(u16::MAX)
    }

    /// Whether a message with this grant takes no memory but a place that is there.
    pub(super) fn has_slot_for(&self, grant: &Grant) -> bool {
        self.messages.len() < self.messages.capacity() && grant.heap_bytes() == 0
    }

    /// Whether the message of a delivery may be sent, with `count_max` in flight at most: its Packet Identifier must not be that of
    /// an older message.
    pub(super) fn has_room_for(&self, delivery: u64, count_max: u16) -> bool {
        self.messages.len() < usize::from(count_max)
            && self.messages.front().is_none_or(|oldest| have_own_ids(oldest.delivery, delivery))
    }

    /// Bytes that it takes beside its own struct and its messages. Groups that the session has left count nothing: few remember
    /// one.
    pub(super) fn heap_bytes(&self) -> u64 {
        heap::block(self.messages.capacity() * size_of::<Inflight>())
            + heap::block(self.resend.capacity() * size_of::<PacketId>())
            + self.grant_bytes
    }

    /// Takes a message in that is sent now [MQTT-2.2.1-4].
    ///
    /// # Panics
    /// If [`Window::has_room_for`] says that there is none, or a later delivery is in flight.
    pub(crate) fn start(&mut self, delivery: u64, stage: Stage, mut grant: Grant) -> PacketId {
        assert!(grant.qos != QoS::AtMostOnce);
        if let Some(last) = self.messages.back() {
            assert!(last.delivery < delivery && self.has_room_for(delivery, u16::MAX));
        } else if self.messages.capacity() == 0 {
            self.messages.reserve(WINDOW_SLOTS_MIN);
        }
        if grant.qos == QoS::ExactlyOnce {
            // From now on no other member may receive it [MQTT-4.8.2-5].
            grant.group = None;
        }
        self.grant_bytes += grant.heap_bytes();
        let packet_id = packet_id_of(delivery);
        self.messages.push_back(Inflight {
            stage,
            grant,
            delivery,
            packet_id,
            holds_quota: true,
            is_release_held: false,
        });
        packet_id
    }

    /// The place of a message among those in flight, by its Packet Identifier, and the message.
    #[inline]
    pub(crate) fn find(&self, packet_id: PacketId) -> Option<(usize, &Inflight)> {
        let first = self.messages.front()?;
        // Most acknowledgements are for the oldest.
        if first.packet_id == packet_id { Some((0, first)) } else { self.find_behind(first, packet_id) }
    }

    #[inline(never)]
    fn find_behind(&self, first: &Inflight, packet_id: PacketId) -> Option<(usize, &Inflight)> {
        let (id, first_id) = (u64::from(packet_id.get()), u64::from(first.packet_id.get()));
        // Less than the number of identifiers lies between the oldest and the newest.
        let ahead = if id >= first_id { id - first_id } else { id + PACKET_IDS - first_id };
        let delivery = first.delivery + ahead;
        // Most windows have no gaps.
        let guess = usize::try_from(ahead).unwrap_or(usize::MAX);
        if let Some(message) = self.messages.get(guess).filter(|message| message.delivery == delivery) {
            return Some((guess, message));
        }
        let at = self.messages.binary_search_by_key(&delivery, |message| message.delivery).ok()?;
        Some((at, &self.messages[at]))
    }

    pub(crate) fn get(&self, packet_id: PacketId) -> Option<&Inflight> {
        self.find(packet_id).map(|(_, message)| message)
    }

    pub(crate) fn get_mut(&mut self, packet_id: PacketId) -> Option<&mut Inflight> {
        let (at, _) = self.find(packet_id)?;
        self.messages.get_mut(at)
    }

    /// Ends a delivery: its Packet Identifier is unused again.
    pub(crate) fn finish(&mut self, packet_id: PacketId) -> Option<Inflight> {
        let (at, _) = self.find(packet_id)?;
        self.finish_at(at)
    }

    /// [`Window::finish`] of the message at this place.
    #[inline]
    pub(crate) fn finish_at(&mut self, at: usize) -> Option<Inflight> {
        let inflight = if at == 0 { self.messages.pop_front() } else { self.messages.remove(at) }?;
        self.grant_bytes -= inflight.grant.heap_bytes();
        if !self.former_groups.is_empty() {
            self.former_groups.remove(&inflight.packet_id);
        }
        Some(inflight)
    }

    /// The message at this place.
    pub(crate) fn at(&self, at: usize) -> Option<&Inflight> {
        self.messages.get(at)
    }

    pub(crate) fn at_mut(&mut self, at: usize) -> Option<&mut Inflight> {
        self.messages.get_mut(at)
    }

    /// Begins redelivery on a new connection: everything in flight is sent again in its first order, and each PUBREL
    /// before any PUBLISH, since only a PUBLISH waits for quota [MQTT-3.3.4-10].
    pub(crate) fn rewind(&mut self) {
        self.resend.clear();
        self.resend.reserve_exact(self.messages.len());
        for is_release in [true, false] {
            let alike =
                self.messages.iter().filter(|message| (message.stage == Stage::Release) == is_release);
            self.resend.extend(alike.map(|message| message.packet_id));
        }
        for message in &mut self.messages {
            message.holds_quota = false;
        }
        assert!(self.resend.len() == self.messages.len());
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
        for inflight in &mut self.messages {
            if let Some(key) = inflight.grant.group.and_then(&key_of) {
                inflight.grant.group = None;
                let other = self.former_groups.insert(inflight.packet_id, key);
                assert!(other.is_none());
            }
        }
        assert!(self.former_groups.len() <= self.messages.len());
    }

    /// A message came by a group that the session has left since.
    pub(super) fn set_former_group(&mut self, packet_id: PacketId, key: u64) {
        assert!(self.get(packet_id).is_some_and(|inflight| inflight.grant.group.is_none()));
        self.former_groups.insert(packet_id, key);
    }

    /// The key of the group by which a message came that its session has left since.
    pub(crate) fn former_group(&self, packet_id: PacketId) -> Option<u64> {
        self.former_groups.get(&packet_id).copied()
    }

    /// Messages that hold send quota of the connection, for an audit.
    pub(crate) fn quota_held(&self) -> usize {
        self.iter().filter(|inflight| inflight.holds_quota).count()
    }

    /// Recomputes what is kept beside the messages, for an audit.
    ///
    /// # Panics
    /// If some of it is wrong.
    pub(crate) fn check(&self, next_delivery: u64) {
        assert!(self.iter().map(|inflight| inflight.grant.heap_bytes()).sum::<u64>() == self.grant_bytes);
        assert!(self.messages.iter().is_sorted_by(|a, b| a.delivery < b.delivery));
        assert!(self.iter().all(|inflight| inflight.packet_id == packet_id_of(inflight.delivery)));
        let span = self.messages.back().zip(self.messages.front());
        assert!(span.is_none_or(|(last, first)| last.delivery - first.delivery < PACKET_IDS));
        assert!(self.messages.back().is_none_or(|last| last.delivery < next_delivery));
        for &packet_id in self.former_groups.keys() {
            assert!(self.get(packet_id).is_some_and(|inflight| inflight.grant.group.is_none()));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Inflight> {
        self.messages.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::grant::Identifiers;
    use alloc::vec::Vec;

    fn grant() -> Grant {
        Grant { qos: QoS::ExactlyOnce, retain: false, group: None, identifiers: Identifiers::None }
    }

    #[test]
    fn packet_identifiers_are_never_zero_never_used_twice_and_come_back() {
        let mut window = Window::default();
        let mut seen = alloc::vec![false; 65_536];
        for delivery in 7..7 + 65_535 {
            assert!(window.has_room_for(delivery, u16::MAX));
            let id = window.start(delivery, Stage::Release, grant()).get();
            assert!(!core::mem::replace(&mut seen[usize::from(id)], true));
        }
        assert!(!seen[0]);
        assert_eq!(window.count(), u16::MAX);
        // One in the middle makes no room: its identifier would be used before that of the oldest, which is sent again first.
        let id = PacketId::new(777).unwrap();
        assert!(window.finish(id).is_some());
        assert!(window.finish(id).is_none());
        assert!(!window.has_room_for(7 + 65_535, u16::MAX));
        let oldest = packet_id_of(7);
        assert!(window.finish(oldest).is_some());
        assert!(window.has_room_for(7 + 65_535, u16::MAX));
        assert_eq!(window.start(7 + 65_535, Stage::Release, grant()), oldest);
        window.check(7 + 65_536);
    }

    #[test]
    fn a_message_is_found_by_its_identifier_whatever_is_missing_before_it() {
        let mut window = Window::default();
        let deliveries = [65_530, 65_531, 65_540, 65_541, 70_000, 131_000];
        for delivery in deliveries {
            window.start(delivery, Stage::Release, grant());
        }
        for delivery in deliveries {
            assert_eq!(window.get(packet_id_of(delivery)).unwrap().delivery(), delivery);
        }
        assert!(window.get(packet_id_of(65_532)).is_none());
        window.finish(packet_id_of(65_540));
        window.finish(packet_id_of(65_530));
        for delivery in [65_531, 65_541, 70_000, 131_000] {
            assert_eq!(window.get(packet_id_of(delivery)).unwrap().delivery(), delivery);
        }
    }

    #[test]
    fn a_group_that_was_left_is_forgotten_with_its_message() {
        let mut window = Window::default();
        let tag = GroupTag::of(3);
        let in_group = Grant { qos: QoS::AtLeastOnce, group: Some(tag), ..grant() };
        let id = window.start(0, Stage::Release, in_group);
        window.leave_groups(|left| (left == tag).then_some(7));
        assert_eq!(window.former_group(id), Some(7));
        window.finish(id);
        // The identifier comes round.
        assert_eq!(window.start(PACKET_IDS, Stage::Release, grant()), id);
        assert_eq!(window.former_group(id), None);
    }

    #[test]
    fn a_rewind_keeps_the_order_of_first_sending() {
        let mut window = Window::default();
        let ids: Vec<_> = (0..20).map(|at| window.start(at, Stage::Release, grant())).collect();
        for id in &ids[..10] {
            window.finish(*id);
        }
        let later: Vec<_> = (20..50).map(|at| window.start(at, Stage::Release, grant())).collect();
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
