//! QoS 1 and 2 state of one session: what is in flight, what is queued, what was received.
//! Knows no connection and no bytes; `deliver_pending` moves messages from here to an outbox.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use wire::{PacketId, QoS, SubscriptionId};

use crate::message::stored::{MessageKey, MessageStore};
use crate::topic::tree::GroupTag;

/// Slots a window starts with: enough that a Packet Identifier is not used again at once.
const WINDOW_SLOTS_MIN: usize = 16;

/// Subscription Identifiers that go with one delivery [MQTT-3.3.4-3].
#[derive(Clone, Debug, Default)]
pub(crate) enum Identifiers {
    #[default]
    None,
    One(SubscriptionId),
    Many(Vec<SubscriptionId>),
}

impl Identifiers {
    pub(crate) fn as_slice(&self) -> &[SubscriptionId] {
        match self {
            Self::None => &[],
            Self::One(identifier) => core::slice::from_ref(identifier),
            Self::Many(identifiers) => identifiers,
        }
    }

    /// One more, even if it is there: two subscriptions may have the same [3.3.4].
    pub(crate) fn add(&mut self, identifier: Option<SubscriptionId>) {
        let Some(identifier) = identifier else { return };
        match self {
            Self::None => *self = Self::One(identifier),
            Self::One(first) => *self = Self::Many(alloc::vec![*first, identifier]),
            Self::Many(identifiers) => identifiers.push(identifier),
        }
    }
}

impl From<Option<SubscriptionId>> for Identifiers {
    fn from(identifier: Option<SubscriptionId>) -> Self {
        identifier.map_or(Self::None, Self::One)
    }
}

/// What one delivery to one session is granted.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// The group it came by, while another member may still have it instead: of QoS 1 until it is
    /// acknowledged, of QoS 2 until it is sent [MQTT-4.8.2-5]. The session is a member of that group.
    pub(crate) group: Option<GroupTag>,
    pub(crate) identifiers: Identifiers,
}

// Every queued and every in-flight message has one: the group lies where there was room anyway.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Grant>() == 32 && size_of::<Queued>() == 40);

impl Grant {
    fn via(&self) -> Via {
        self.group.map_or(Via::Own, Via::Group)
    }
}

/// How far the delivery of an in-flight message has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// PUBLISH is out, PUBACK or PUBREC is due. Holds the message.
    Publish(MessageKey),
    /// PUBREC came, PUBREL is out, PUBCOMP is due [MQTT-4.3.3-4].
    Release,
}

#[derive(Debug)]
pub(crate) struct Inflight {
    pub(crate) stage: Stage,
    pub(crate) grant: Grant,
    /// Its PUBLISH went out on this connection and counts against the client's Receive Maximum until the
    /// delivery ends [MQTT-3.3.4-9].
    pub(crate) holds_quota: bool,
    /// Order in which it was first sent, which redelivery keeps [MQTT-4.6.0-1].
    sequence: u64,
}

#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) message: MessageKey,
    pub(crate) grant: Grant,
}

/// **Lives on:** the session's shard, from its first QoS 1 or 2 message on.
#[derive(Debug, Default)]
pub(crate) struct DeliveryState {
    /// Slot `i` is Packet Identifier `i + 1`. At most `Limits::inflight_max`.
    window: Vec<Option<Inflight>>,
    /// Where the search for an unused Packet Identifier starts.
    cursor: usize,
    inflight_count: u16,
    sequence: u64,
    /// Packet Identifiers to be sent again on this connection, oldest first [MQTT-4.4.0-1].
    pub(crate) resend: VecDeque<PacketId>,
    /// Waiting for window, quota or a connection; `Limits::queue_full` says what a full one does.
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: u64,
    pub(crate) queued_qos0_count: u32,
    /// QoS 2 Packet Identifiers of the client between PUBLISH and PUBREL, sorted [MQTT-4.3.3-10].
    received: Vec<u16>,
    /// QoS 1 messages in flight that came by a group which the session has left since, with its key: their
    /// delivery is completed all the same [MQTT-3.10.4-3]. Bounded by the window.
    former: BTreeMap<PacketId, u64>,
}

/// What a session that ends was still owed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undelivered {
    /// `None` once its receiver has it and only the handshake is open.
    pub(crate) message: Option<MessageKey>,
    pub(crate) via: Via,
}

/// How a message came to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Via {
    /// By its own subscriptions, or by a group that can have it no more.
    Own,
    /// By a group it is a member of.
    Group(GroupTag),
    /// By a group it has left, of this key.
    Former(u64),
}

impl DeliveryState {
    pub(crate) fn inflight_count(&self) -> u16 {
        self.inflight_count
    }

    /// Nothing waits to be sent: the next message may go out at once without overtaking one.
    pub(crate) fn has_no_backlog(&self) -> bool {
        self.queue.is_empty() && self.resend.is_empty()
    }

    /// No state is left, so the whole of it can be forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        self.inflight_count == 0 && self.has_no_backlog() && self.received.is_empty()
    }

    /// Takes the next unused Packet Identifier for a message that is sent now [MQTT-2.2.1-4], or `None` while
    /// `inflight_max` are in flight.
    pub(crate) fn start(&mut self, inflight_max: u16, stage: Stage, mut grant: Grant) -> Option<PacketId> {
        if grant.qos == QoS::ExactlyOnce {
            // From now on nobody else may have it [MQTT-4.8.2-5].
            grant.group = None;
        }
        if self.inflight_count >= inflight_max {
            return None;
        }
        if usize::from(self.inflight_count) == self.window.len() {
            let slots = (self.window.len() * 2).clamp(WINDOW_SLOTS_MIN, usize::from(u16::MAX));
            self.cursor = self.window.len();
            self.window.resize_with(slots, || None);
        }
        while self.window[self.cursor].is_some() {
            self.cursor = (self.cursor + 1) % self.window.len();
        }
        let index = self.cursor;
        self.window[index] = Some(Inflight { stage, grant, holds_quota: true, sequence: self.sequence });
        self.sequence += 1;
        self.inflight_count += 1;
        self.cursor = (self.cursor + 1) % self.window.len();
        let packet_id = u16::try_from(index + 1).ok().and_then(PacketId::new);
        Some(packet_id.expect("a window has at most 65 535 slots"))
    }

    pub(crate) fn inflight(&mut self, packet_id: PacketId) -> Option<&mut Inflight> {
        self.window.get_mut(usize::from(packet_id.get()) - 1)?.as_mut()
    }

    /// Ends a delivery: its Packet Identifier is unused again.
    pub(crate) fn finish(&mut self, packet_id: PacketId) -> Option<Inflight> {
        let inflight = self.window.get_mut(usize::from(packet_id.get()) - 1)?.take()?;
        assert!(self.inflight_count > 0);
        self.inflight_count -= 1;
        self.former.remove(&packet_id);
        Some(inflight)
    }

    /// A new connection: everything in flight is to be sent again, in its first order; each PUBREL before
    /// any PUBLISH, since only that waits for quota [MQTT-3.3.4-10].
    pub(crate) fn rewind(&mut self) {
        let mut order: Vec<(bool, u64, PacketId)> = Vec::with_capacity(usize::from(self.inflight_count));
        for (id, slot) in (1u16..=u16::MAX).zip(&mut self.window) {
            if let (Some(id), Some(inflight)) = (PacketId::new(id), slot) {
                inflight.holds_quota = false;
                order.push((inflight.stage != Stage::Release, inflight.sequence, id));
            }
        }
        order.sort_unstable();
        self.resend.clear();
        self.resend.extend(order.into_iter().map(|(_, _, id)| id));
    }

    /// Everything that is owed, in the order in which it was or would have been sent first: for a session that
    /// ends.
    pub(crate) fn into_undelivered(self) -> impl Iterator<Item = Undelivered> {
        let former = self.former;
        let mut inflight: Vec<(PacketId, Inflight)> =
            (1u16..=u16::MAX).zip(self.window).filter_map(|(id, slot)| PacketId::new(id).zip(slot)).collect();
        inflight.sort_unstable_by_key(|(_, inflight)| inflight.sequence);
        let inflight = inflight.into_iter().map(move |(id, inflight)| {
            let message = match inflight.stage {
                Stage::Publish(message) => Some(message),
                Stage::Release => None,
            };
            let via = former.get(&id).map_or_else(|| inflight.grant.via(), |&key| Via::Former(key));
            Undelivered { message, via }
        });
        let queued = self.queue.into_iter();
        let queued =
            queued.map(|queued| Undelivered { message: Some(queued.message), via: queued.grant.via() });
        inflight.chain(queued)
    }

    /// The session leaves groups: what is queued because of them is taken out, in order, with the key of its
    /// group; what is in flight stays, and its group is remembered. `key_of` says which groups they are.
    pub(crate) fn leave(
        &mut self,
        messages: &MessageStore,
        key_of: impl Fn(GroupTag) -> Option<u64>,
        mut moved: impl FnMut(MessageKey, u64),
    ) {
        for (id, slot) in (1u16..=u16::MAX).zip(&mut self.window) {
            if let Some(inflight) = slot
                && let Some(key) = inflight.grant.group.and_then(&key_of)
            {
                inflight.grant.group = None;
                let id = PacketId::new(id).expect("from 1 on");
                self.former.insert(id, key);
            }
        }
        let mut reassigned_bytes = 0;
        self.queue.retain(|queued| {
            let Some(key) = queued.grant.group.and_then(&key_of) else { return true };
            reassigned_bytes += messages.bytes_of(queued.message);
            moved(queued.message, key);
            false
        });
        self.queue_bytes -= reassigned_bytes;
    }

    /// Groups by which something is held, for an audit.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupTag> + '_ {
        let inflight = self.window.iter().flatten().filter_map(|inflight| inflight.grant.group);
        inflight.chain(self.queue.iter().filter_map(|queued| queued.grant.group))
    }

    /// Messages held, in flight and queued, for an audit.
    pub(crate) fn messages(&self) -> impl Iterator<Item = MessageKey> + '_ {
        let inflight = self.window.iter().flatten().filter_map(|inflight| match inflight.stage {
            Stage::Publish(message) => Some(message),
            Stage::Release => None,
        });
        inflight.chain(self.queue.iter().map(|queued| queued.message))
    }

    /// Notes a QoS 2 Packet Identifier of the client; `false` if it is known: a repetition.
    pub(crate) fn receive(&mut self, packet_id: PacketId) -> bool {
        match self.received.binary_search(&packet_id.get()) {
            Ok(_) => false,
            Err(at) => {
                self.received.insert(at, packet_id.get());
                true
            }
        }
    }

    pub(crate) fn has_received(&self, packet_id: PacketId) -> bool {
        self.received.binary_search(&packet_id.get()).is_ok()
    }

    /// PUBREL: the Packet Identifier is free for a new message [MQTT-4.3.3-12]. `false` if unknown.
    pub(crate) fn release_received(&mut self, packet_id: PacketId) -> bool {
        match self.received.binary_search(&packet_id.get()) {
            Ok(at) => {
                self.received.remove(at);
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant { qos: QoS::ExactlyOnce, retain: false, group: None, identifiers: Identifiers::None }
    }

    #[test]
    fn packet_identifiers_are_never_zero_never_used_twice_and_come_back() {
        let mut deliveries = DeliveryState::default();
        let mut seen = alloc::vec![false; 65_536];
        for _ in 0..65_535 {
            let id = deliveries.start(u16::MAX, Stage::Release, grant()).unwrap().get();
            assert!(!core::mem::replace(&mut seen[usize::from(id)], true));
        }
        assert!(!seen[0]);
        assert_eq!(deliveries.start(u16::MAX, Stage::Release, grant()), None);
        let id = PacketId::new(777).unwrap();
        assert!(deliveries.finish(id).is_some());
        assert!(deliveries.finish(id).is_none());
        assert_eq!(deliveries.start(u16::MAX, Stage::Release, grant()), Some(id));
    }

    #[test]
    fn a_rewind_keeps_the_order_of_first_sending() {
        let mut deliveries = DeliveryState::default();
        let ids: Vec<_> = (0..20).map(|_| deliveries.start(100, Stage::Release, grant()).unwrap()).collect();
        for id in &ids[..10] {
            deliveries.finish(*id);
        }
        let later: Vec<_> =
            (0..30).map(|_| deliveries.start(100, Stage::Release, grant()).unwrap()).collect();
        deliveries.rewind();
        let expected: Vec<_> = ids[10..].iter().chain(&later).copied().collect();
        assert_eq!(deliveries.resend.iter().copied().collect::<Vec<_>>(), expected);
    }
}
