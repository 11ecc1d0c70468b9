//! Messages to and from other shards: announcements of interest, forwarded publishes, watermarks.

use core::num::NonZeroU64;

use bytes::Bytes;

use super::Rooms;
use crate::mesh::message::ShardMessage;
use crate::mesh::outbound::{InboundItem, messages};
use crate::message::forwarded::{ForwardedPublish, GroupKeys};
use crate::message::origin::{Origin, Origins};
use crate::publish::fan_out::FanOut;
use crate::retained::pages::PageRequest;
use crate::session::replays::{Cursor, LiveOrigin};
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
                    self.retained.unblock(&mut self.delivery.sessions);
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

    /// Forwards a message to the shards that want it, and to the home of its topic if it is to be retained. `filters` of
    /// the tree match, `fingerprint` is the topic's. Returns to how many shards or members it went.
    pub(super) fn forward(
        &mut self,
        turn: &mut Turn<'_>,
        filters: &[u32],
        fingerprint: u64,
        publisher: Option<NonZeroU64>,
        fan_out: &mut FanOut<'_>,
    ) -> u32 {
        let message = *fan_out.message();
        let own = self.mesh.placement().own();
        let subscribed = self.mesh.interests().interested(fingerprint, filters).without(own);
        let mut targets = subscribed;
        let mut taken_count = subscribed.len();
        if self.topics.has_groups() || self.shared.remote().len() > 0 {
            for key in self.group_keys(fingerprint, filters) {
                taken_count += 1;
                if let Some(target) = self.choose_shard(turn, key, fan_out) {
                    targets = targets.with(target);
                }
            }
        }
        if taken_count == 0 && !message.retain {
            return 0;
        }
        let origin = Origin { shard: own, sequence: self.delivery.publish_sequence() };
        let home = message.retain.then(|| self.mesh.placement().home(fingerprint));
        let home = home.filter(|&home| home != own);
        if let Some(home) = home {
            self.retained.watermarks_mut().record_sent(home, origin);
            targets = targets.with(home);
        }
        assert!(!targets.contains(own));
        for target in targets.iter() {
            let keys = self.mesh.take_group_keys(target);
            let publish = ForwardedPublish {
                deliver_here: subscribed.contains(target),
                retain_here: home == Some(target),
                publisher,
                groups: GroupKeys::from_bytes(&keys),
                ..ForwardedPublish::of(message, origin)
            };
            self.mesh.send(target, &ShardMessage::Publish(publish), fan_out.shared());
            turn.counters.messages_forwarded += 1;
            self.mesh.return_group_keys(target, keys);
        }
        taken_count
    }

    /// A message of another shard's publisher.
    fn on_forwarded(
        &mut self,
        turn: &mut Turn<'_>,
        source: u16,
        publish: &ForwardedPublish<'_>,
        attached: Option<&Bytes>,
    ) {
        let (message, origin) = (publish.view, publish.origin);
        assert!(origin.shard == source);
        let at = self.delivery.next_publish();
        let live = (!origin.is_past()).then_some(LiveOrigin { at, origin });
        let mut fan_out = self.delivery.begin(message, attached, live);
        let mut filters = core::mem::take(&mut self.filters);
        let fingerprint = self.topics.matches(message.topic, &mut filters);
        // A message that is only to be retained may still find a subscriber: one that came after it was sent.
        if publish.deliver_here || publish.retain_here {
            self.delivery.offer_to_subscribers(turn, &self.topics, &filters, &mut fan_out);
        }
        if publish.deliver_here && fan_out.offered_count() == 0 {
            turn.counters.forwarded_unmatched += 1;
        }
        self.deliver_to_groups(turn, source, publish, &mut fan_out);
        if publish.retain_here {
            assert!(self.mesh.placement().home(fingerprint) == self.mesh.placement().own());
            self.retained.apply_update(origin);
            let messages = &self.delivery.messages;
            // Its publisher was told that it is taken, so one that has no room is at least counted.
            if self.retained.store().is_full_for(turn.limits, messages, &message) {
                turn.counters.retained_refused += 1;
            } else {
                self.retain(turn, &mut fan_out, publish.publisher, origin);
            }
        } else if message.retain {
            // Its home takes it from its publisher's shard, unless that is the home itself.
            let home = self.mesh.placement().home(fingerprint);
            if home != source {
                self.retained.watermarks_mut().require(home, origin);
            }
        }
        self.return_filters(filters);
        self.delivery.finish(&fan_out);
    }
}
