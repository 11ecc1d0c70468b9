//! Messages from other shards, announcements of interest, and reports of watermarks.

use bytes::Bytes;

use super::Rooms;
use super::backlog::{Inbound, Side};
use crate::mesh::message::ShardMessage;
use crate::mesh::outbound::{InboundItem, LaneKind, split_message};
use crate::message::origin::Origins;
use crate::retained::pages::PageRequest;
use crate::session::replays::Cursor;
use crate::topic::tree::Change;
use crate::turn::Turn;

/// Work of a message of a lane, apart from its deliveries.
const MESSAGE_WORK: u32 = 1;

impl Rooms {
    /// Takes in one item of a lane, whatever this shard's own lanes are like. A data item, or the rest of one, waits in the
    /// backlog while a fan-out is under way or once the step has done its share of work.
    pub(super) fn on_inbox(&mut self, turn: &mut Turn<'_>, source: u16, item: InboundItem<'_>) {
        assert!(source != self.mesh.placement().own());
        match item {
            InboundItem::Oversized(item) => {
                let (message, attached) = item.message();
                let message = ShardMessage::decode(message, attached);
                if self.waits_behind(&message) || !self.may_take(turn, &message) {
                    self.backlog.push_inbound(source, Inbound::Oversized(item.clone()));
                } else {
                    self.on_message(turn, source, message, attached);
                }
            }
            InboundItem::Block(block) => {
                // All messages of a block take the same lane.
                let first = split_message(block).map(|(first, _)| ShardMessage::decode(first, None));
                let waits = first.is_some_and(|first| self.waits_behind(&first));
                let rest = if waits { block } else { self.take_messages(turn, source, block) };
                if !rest.is_empty() {
                    self.backlog.push_inbound(source, Inbound::Block(rest.to_vec()));
                }
            }
        }
    }

    /// Whether a message has to wait behind others of data lanes.
    fn waits_behind(&self, message: &ShardMessage<'_>) -> bool {
        message.lane() == LaneKind::Data && self.backlog.has_inbound()
    }

    fn may_take(&self, turn: &Turn<'_>, message: &ShardMessage<'_>) -> bool {
        match message.lane() {
            LaneKind::Control => true,
            LaneKind::Data => {
                // A member of a group is looked for among those of all shards, so all of them have to be known.
                !turn.is_spent() && self.backlog.may_publish(Side::Lanes) && self.mesh.is_whole()
            }
        }
    }

    /// Takes in the messages of a block, as far as may be. Returns the rest.
    pub(super) fn take_messages<'a>(
        &mut self,
        turn: &mut Turn<'_>,
        source: u16,
        mut block: &'a [u8],
    ) -> &'a [u8] {
        while let Some((message, rest)) = split_message(block) {
            let message = ShardMessage::decode(message, None);
            if !self.may_take(turn, &message) {
                return block;
            }
            turn.spend(MESSAGE_WORK);
            self.on_message(turn, source, message, None);
            block = rest;
        }
        block
    }

    pub(super) fn on_message(
        &mut self,
        turn: &mut Turn<'_>,
        source: u16,
        message: ShardMessage<'_>,
        attached: Option<&Bytes>,
    ) {
        match message {
            ShardMessage::Publish(publish) => self.on_forwarded(turn, source, &publish, attached),
            ShardMessage::Returned(publish) => self.on_returned(turn, source, &publish, attached),
            ShardMessage::Interest(filter, wanted) => {
                self.mesh.count_announcement(source);
                let interests = self.mesh.interests_mut();
                interests.change(&mut self.topics, filter, |interest| interest.set_shard(source, wanted));
            }
            ShardMessage::Group { filter, key, online_count, persistent_count, is_lasting } => {
                self.mesh.count_announcement(source);
                let remote = self.shared.remote_mut();
                let has_members = remote.set(key, source, (online_count, persistent_count), is_lasting);
                let interests = self.mesh.interests_mut();
                interests.change(&mut self.topics, filter, |interest| interest.set_group(key, has_members));
            }
            ShardMessage::PageRequest { replay, filter, topic, is_seen, required } => {
                let cursor = Cursor::from_topic(topic, is_seen);
                let required = required.iter().collect();
                let request = PageRequest::new(source, replay, filter, cursor, required);
                self.retained.on_page_request(request);
            }
            ShardMessage::Watermarks(seen, updates) => {
                assert!(seen <= self.mesh.announced());
                self.retained.on_report(source, seen, updates.iter());
                self.retained.unblock();
            }
            ShardMessage::Retained(id, answer) => {
                self.retained.on_retained(turn, &mut self.delivery, id, &answer, attached);
            }
            ShardMessage::PageEnd(id, cursor) => {
                self.retained.on_page_end(turn, &mut self.delivery.sessions, source, id, cursor);
            }
            ShardMessage::Recovered => {
                self.mesh.count_announcement(source);
                self.mesh.set_recovered(source);
                self.publish_due(turn);
            }
            ShardMessage::Settled(upto) => self.on_settled(turn, source, upto),
        }
    }

    /// Another shard has acknowledged more of our announcements: the SUBACKs that waited for it leave.
    pub(super) fn on_announced(&mut self, turn: &mut Turn<'_>, target: u16, count: u64) {
        self.mesh.acknowledge(target, count);
        let known = self.mesh.acknowledged_by_all();
        let delivery = &mut self.delivery;
        // Retained messages follow SUBACK.
        for session in delivery.connections.acknowledge_known(turn, known) {
            self.retained.begin(turn, delivery, session);
            self.retained.schedule(&mut delivery.sessions, session);
        }
    }

    /// Announces the changes of the topic tree since the last call.
    pub(super) fn announce_changes(&mut self) {
        let Self { topics, delivery, shared, mesh, .. } = self;
        while let Some(change) = topics.next_change() {
            match change {
                Change::Interest { filter, wanted } => {
                    let name = mesh.name_of(&filter);
                    mesh.announce(&ShardMessage::Interest(name, wanted));
                }
                Change::Group { filter, key } => {
                    let counts = shared.count_members_of(topics, delivery, key);
                    let (online_count, persistent_count) = counts.counts();
                    let filter = mesh.name_of(&filter);
                    mesh.announce(&ShardMessage::Group {
                        filter,
                        key,
                        online_count,
                        persistent_count,
                        is_lasting: counts.is_lasting(),
                    });
                }
            }
        }
    }

    /// Reports to the shards that announced something the retained updates that were sent to their homes until then.
    pub(super) fn report_watermarks(&mut self) {
        for target in self.mesh.take_unreported().iter() {
            let seen = self.mesh.seen(target);
            let updates = self.retained.watermarks_mut().report(target);
            self.mesh.send(target, &ShardMessage::Watermarks(seen, Origins::List(&updates)), None);
        }
    }
}
