//! The decision whether a publish leaves its shard, and the arrival of one from another shard.

use bytes::Bytes;
use wire::QoS;

use super::Rooms;
use super::fan_out::Source;
use super::publish::{Author, spend_match};
use super::transfers::{Way, cross};
use crate::memory::Budget;
use crate::mesh::message::ShardMessage;
use crate::message::forwarded::{ForwardedPublish, GroupKeys, PublisherName};
use crate::message::origin::Origin;
use crate::publish::fan_out::FanOut;
use crate::publish::matches::Position;
use crate::publish::spread::Stage;
use crate::session::replays::LiveOrigin;
use crate::turn::Turn;

impl Rooms {
    /// Forwards a message to the shards that want it, and to the home of its topic if it is to be retained. `filters` of
    /// the tree match; the topic's fingerprint goes with whether the fan-out is cut. Returns to how many shards or members it went, and
    /// whether its acknowledgement is a promise because of them.
    pub(super) fn forward(
        &mut self,
        turn: &mut Turn<'_>,
        filters: &[u32],
        (fingerprint, is_cut): (u64, bool),
        author: Author,
        fan_out: &mut FanOut<'_>,
    ) -> (u32, bool) {
        let message = fan_out.message();
        let own = self.mesh.placement().own();
        let subscribed = self.mesh.interests().interested(fingerprint, filters).without(own);
        let may_transfer = Self::may_transfer(turn, message.qos);
        let interests = self.mesh.interests();
        let lasting = may_transfer.then(|| interests.lasting(fingerprint, filters).without(own));
        let mut lasting = lasting.unwrap_or_default();
        let mut targets = subscribed;
        let mut taken_count = subscribed.len();
        if self.topics.has_groups() || self.shared.remote().len() > 0 {
            for key in self.group_keys(fingerprint, filters) {
                taken_count += 1;
                if let Some(target) = self.choose_shard(turn, key, fan_out) {
                    targets = targets.with(target);
                    if may_transfer && self.shared.is_lasting(&self.topics, &self.delivery, key) {
                        lasting = lasting.with(target);
                    }
                }
            }
        }
        if taken_count == 0 && !message.retain {
            return (0, false);
        }
        let origin = Origin { shard: own, sequence: self.delivery.publish_sequence() };
        let home = message.retain.then(|| self.mesh.placement().home(fingerprint));
        let home = home.filter(|&home| home != own);
        if let Some(home) = home {
            self.retained.watermarks_mut().record_sent(home, origin);
            targets = targets.with(home);
            // Of QoS 0 too: a will that the log has is published once.
            lasting = if turn.is_recording() { lasting.with(home) } else { lasting };
        }
        assert!(!targets.contains(own));
        let transfer = if lasting.is_empty() { Way::Plain } else { self.transfer(is_cut) };
        let (client, user) = author;
        for target in targets.iter() {
            // Only the home has to know the user.
            let user = user.filter(|_| home == Some(target));
            let publisher = PublisherName::new(client, self.delivery.sessions.users().name_of(user));
            let keys = self.mesh.take_group_keys(target);
            let publish = ForwardedPublish {
                deliver_here: subscribed.contains(target),
                retain_here: home == Some(target),
                publisher,
                groups: GroupKeys::from_bytes(&keys),
                ..ForwardedPublish::of(*message, origin)
            };
            let way = if lasting.contains(target) { transfer } else { Way::Plain };
            cross(turn, &mut self.mesh, target, &mut ShardMessage::Publish(publish), way, fan_out);
            turn.counters.messages_forwarded += 1;
            self.mesh.return_group_keys(target, keys);
        }
        self.count_unweighed(turn, message.bytes() * u64::from(targets.len()));
        // Without a log it is not known whether a session elsewhere outlives its connection, so it may.
        let is_promised = if turn.is_recording() {
            self.open_transfer(turn, fan_out)
        } else {
            taken_count > 0 && message.qos != QoS::AtMostOnce
        };
        (taken_count, is_promised)
    }

    /// A message of another shard's publisher.
    pub(super) fn on_forwarded(
        &mut self,
        turn: &mut Turn<'_>,
        source: u16,
        publish: &ForwardedPublish<'_>,
        attached: Option<&Bytes>,
    ) {
        if self.is_repetition(turn, source, publish) {
            return;
        }
        let (message, origin) = (&publish.view, publish.origin);
        // A session of the log had no acknowledged subscription when a message left that its shard does not have in its log.
        let is_unpromised = publish.transfer.is_none() && Self::may_transfer(turn, message.qos);
        let checked_all = is_unpromised.then(|| turn.set_checks_all(true));
        let at = self.delivery.next_publish();
        let live = (!origin.is_past()).then_some(LiveOrigin::new(at, origin));
        let mut fan_out = self.delivery.begin(message, attached, live, None);
        fan_out.set_unpromised(is_unpromised);
        let mut filters = core::mem::take(&mut self.filters);
        let found = self.topics.matches(message.topic, &mut filters);
        let fingerprint = found.fingerprint();
        // The shard of its publisher names it, if it took long there as well.
        let _is_long = spend_match(turn, found, &filters);
        // A message that is only to be retained may still find a subscriber: one that came after it was sent.
        let mut cut = None;
        if publish.deliver_here || publish.retain_here {
            let start = Position::start(filters.len());
            cut = self.delivery.offer_to_subscribers(turn, &self.topics, &filters, start, &mut fan_out);
        }
        if publish.deliver_here && cut.is_none() && fan_out.offered_count() == 0 {
            turn.counters.forwarded_unmatched += 1;
        }
        self.deliver_to_groups(turn, (source, cut.is_some()), publish, &mut fan_out);
        if let Some(checked_all) = checked_all {
            turn.set_checks_all(checked_all);
        }
        if publish.retain_here {
            assert!(self.mesh.placement().home(fingerprint) == self.mesh.placement().own());
            self.retained.apply_update(origin);
            let messages = &self.delivery.messages;
            // Its publisher was told that it is taken, so one that has no room is at least counted.
            let is_refused = !message.payload.is_empty() && self.pressure.refuses(Budget::Retained);
            if is_refused || self.retained.store().is_full_for(turn.limits, messages, message) {
                turn.counters.retained_refused += 1;
            } else {
                let user = self.delivery.sessions.users_mut().hold_named(publish.publisher.user());
                self.retain(turn, &mut fan_out, (publish.publisher.client(), user), origin);
                self.delivery.sessions.users_mut().release(user);
            }
        } else if message.retain {
            // Its home takes it from its publisher's shard, unless that is the home itself.
            let home = self.mesh.placement().home(fingerprint);
            if home != source {
                self.retained.watermarks_mut().require(home, origin);
            }
        }
        if let Some(cut) = cut {
            let stage = Stage::Subscribers(cut);
            let spread = self.delivery.suspend(turn, fan_out, &self.topics, &filters, stage);
            let (is_counted, transfer) = (publish.deliver_here, publish.transfer);
            self.backlog
                .begin_fan_out(spread, Source::Lane { is_counted, from: source, transfer, is_unpromised });
        } else {
            self.delivery.finish(turn, &fan_out);
            self.end_transfer(turn, source, publish.transfer);
        }
        self.return_filters(filters);
        self.weigh_growth(turn);
    }
}
