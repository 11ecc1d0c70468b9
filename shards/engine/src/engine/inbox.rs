//! Messages from other shards, announcements of interest, and reports of watermarks.

use super::Rooms;
use crate::mesh::message::ShardMessage;
use crate::mesh::outbound::{InboundItem, messages};
use crate::message::origin::Origins;
use crate::retained::pages::PageRequest;
use crate::session::replays::Cursor;
use crate::topic::tree::Change;
use crate::turn::Turn;

impl Rooms {
    /// Takes in one item of a lane. Always all of it: a shard drains its lanes whatever its own are like.
    pub(super) fn on_inbox(&mut self, turn: &mut Turn<'_>, source: u16, item: InboundItem<'_>) {
        assert!(source != self.mesh.placement().own());
        for (message, attached) in messages(item) {
            match ShardMessage::decode(message, attached) {
                ShardMessage::Publish(publish) => self.on_forwarded(turn, source, &publish, attached),
                ShardMessage::Returned(publish) => self.on_returned(turn, source, &publish, attached),
                ShardMessage::Interest(filter, wanted) => {
                    self.mesh.count_announcement(source);
                    let interests = self.mesh.interests_mut();
                    interests.change(&mut self.topics, filter, |interest| interest.set_shard(source, wanted));
                }
                ShardMessage::Group { filter, key, online_count, persistent_count } => {
                    self.mesh.count_announcement(source);
                    let remote = self.shared.remote_mut();
                    let has_members = remote.set(key, source, online_count, persistent_count);
                    let interests = self.mesh.interests_mut();
                    interests
                        .change(&mut self.topics, filter, |interest| interest.set_group(key, has_members));
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
                    self.retained.on_page_end(&mut self.delivery.sessions, source, id, cursor);
                }
            }
        }
    }

    /// Another shard has acknowledged more of our announcements: the SUBACKs that waited for it leave.
    pub(super) fn on_announced(&mut self, turn: &mut Turn<'_>, target: u16, count: u64) {
        self.mesh.acknowledge(target, count);
        let known = self.mesh.acknowledged_by_all();
        let delivery = &mut self.delivery;
        // Retained messages follow SUBACK.
        for session in delivery.connections.acknowledge_known(turn, known) {
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
                    let filter = mesh.name_of(&filter);
                    mesh.announce(&ShardMessage::Group {
                        filter,
                        key,
                        online_count: counts.online,
                        persistent_count: counts.persistent,
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
