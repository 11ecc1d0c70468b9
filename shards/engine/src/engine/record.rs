//! Records of sessions, subscriptions and wills, written where several rooms know a part of them; and the log's answer.

use alloc::vec::Vec;

use wire::{QoS, TopicFilter};

use super::{Engine, Rooms};
use crate::action::Batch;
use crate::base::ids::SessionId;
use crate::base::time::Instant;
use crate::log_room::LogRoom;
use crate::message::borrowed::Message;
use crate::publish::matches::grant;
use crate::record::{Body, Numbers, Records};
use crate::session::Session;
use crate::session::replays::ReplayTerms;
use crate::topic::groups::GroupTag;
use crate::topic::members::Member;
use crate::turn::Turn;

impl Engine {
    /// The records of everything since the last call, for the log of this shard. To be asked for once in a turn, after its steps.
    /// `None` if there are none and nobody waits, and always without [`crate::Limits::journal_start`].
    ///
    /// The host appends them in this order, and answers [`crate::Event::Durable`] with their batch once they are durable.
    ///
    /// # Panics
    /// If the engine's own tables contradict each other.
    pub fn records(&mut self) -> Option<Records<'_>> {
        let recorder = self.recorder.as_deref_mut()?;
        // Of what was delivered and is in no log a crash must repeat nothing either.
        self.rooms.write_taken(recorder);
        let connections = &mut self.rooms.delivery.connections;
        let is_awaited = connections.is_batch_awaited();
        if recorder.is_empty() && !is_awaited {
            return None;
        }
        let batch = connections.end_batch();
        self.rooms.record_bytes = recorder.memory_bytes();
        let bytes = recorder.take();
        assert!(is_awaited || !bytes.is_empty());
        Some(Records { bytes, batch, is_awaited })
    }
}

impl Engine {
    /// Records something that changes nothing: a log that begins with a checkpoint has to have a record behind it.
    pub fn record_nothing(&mut self) {
        if let Some(recorder) = self.recorder.as_deref_mut() {
            // No will has this number.
            recorder.write(&Body::WillEnded { number: 0 });
        }
    }
}

impl Rooms {
    /// Records were written and synced up to these batches.
    pub(super) fn on_durable(&mut self, turn: &mut Turn<'_>, written: Batch, synced: Batch) {
        assert!(synced <= written);
        let answered = self.delivery.connections.on_durable(turn, written, synced);
        for session in answered {
            self.retained.begin(turn, &mut self.delivery, session);
        }
        // A connection that opens now is sent its pending messages first.
        self.settle(turn);
        self.delivery.set_synced(synced);
        self.mesh.on_synced(synced);
        self.run_durable(turn);
    }

    /// The log takes more or less than before. Once it has failed, no acknowledgement that waits for it ever leaves.
    pub(super) fn on_log_room(&mut self, turn: &mut Turn<'_>, room: LogRoom) {
        self.pressure.set_log_room(room);
        if room == LogRoom::Failed {
            self.delivery.connections.fail_gate(turn);
            self.mesh.fail();
        }
    }

    /// Whether a message waits for the disk of this shard, or for that of another one towards which too much is on its way.
    #[cold]
    pub(super) fn awaits_room(
        &self,
        message: &Message<'_>,
        publisher: Option<u32>,
        filters: &[u32],
        fingerprint: u64,
    ) -> bool {
        let is_short = self.pressure.log_room().holds();
        (is_short && self.is_recorded(message, publisher, filters, fingerprint))
            || self.goes_too_far_ahead(message, filters, fingerprint)
    }

    /// Whether a message would be a transfer to a shard towards which too much is open. One for a group with members elsewhere may be.
    fn goes_too_far_ahead(&self, message: &Message<'_>, filters: &[u32], fingerprint: u64) -> bool {
        let full = self.mesh.transfers().full_targets();
        if full.is_empty() || message.qos == QoS::AtMostOnce {
            return false;
        }
        let interests = self.mesh.interests();
        let mut keys = Vec::new();
        interests.groups(fingerprint, filters, &mut keys);
        let lasting = interests.lasting(fingerprint, filters);
        lasting.iter().any(|shard| full.contains(shard))
            || (message.retain && full.contains(self.mesh.placement().home(fingerprint)))
            || keys.iter().any(|&key| self.shared.remote().is_lasting(key))
    }

    /// Whether the log would have a record of a message: it is retained, or a session may want it that outlives its connection, here or on
    /// another shard.
    fn is_recorded(
        &self,
        message: &Message<'_>,
        publisher: Option<u32>,
        filters: &[u32],
        fingerprint: u64,
    ) -> bool {
        if message.retain {
            return true;
        }
        let Self { topics, delivery, mesh, shared, .. } = self;
        let mut keys = Vec::new();
        mesh.interests().groups(fingerprint, filters, &mut keys);
        let is_recorded = |member: &Member| {
            grant(member, message, publisher).is_some_and(|grant| crate::session::is_tracked(grant.qos))
                && delivery.sessions.of_member(member.session()).recorded_number().is_some()
        };
        message.qos != QoS::AtMostOnce
            && (filters.iter().any(|&filter| {
                let groups = topics.groups(filter);
                topics.members(filter).iter().any(is_recorded)
                    || groups.iter().any(|&group| topics.group_members(group).iter().any(is_recorded))
            }) || !mesh.interests().lasting(fingerprint, filters).is_empty()
                || keys.iter().any(|&key| shared.remote().is_lasting(key)))
    }

    /// Sends what waited for the log and need not any more.
    pub(super) fn run_durable(&mut self, turn: &mut Turn<'_>) {
        while let Some(session) = self.delivery.serve_durable(turn) {
            self.retained.schedule(&mut self.delivery.sessions, session);
        }
    }

    /// Records a session as it is now, if it outlives its connection or did before. Returns whether it does.
    pub(super) fn record_session(&mut self, turn: &mut Turn<'_>, id: SessionId) -> bool {
        let Some(recorder) = turn.recorder() else { return false };
        let sessions = &mut self.delivery.sessions;
        let session = sessions.of_connection(id);
        let is_new = session.number().is_none();
        if is_new {
            if !session.is_persistent() {
                return false;
            }
            let number = recorder.next_number();
            session.set_number(turn.held_mut(), number);
        }
        self.record_taken(turn);
        let sessions = &self.delivery.sessions;
        let Some((session, recorder)) = sessions.get(id).zip(turn.recorder()) else { return false };
        let Some(number) = session.number() else { return false };
        recorder.write(&Body::Session {
            number: number.get(),
            client_id: session.client_id(),
            user: sessions.users().name_of(sessions.user_of(id)).name(),
            expiry_interval_s: session.expiry_interval_s(),
            will: session.will_number(),
        });
        true
    }

    /// Records a session that has a new connection, and its will. Returns whether any of it is recorded; `None` without a log.
    pub(super) fn record_connected(&mut self, turn: &mut Turn<'_>, id: SessionId) -> Option<bool> {
        turn.recorder()?;
        // The record of the session names the will.
        let has_will = self.record_will(turn, id);
        Some(self.record_session(turn, id) || has_will)
    }

    /// Records the will of a session, which may end with its connection, with everything that the rules ask for later. Returns
    /// whether there is one.
    pub(super) fn record_will(&mut self, turn: &mut Turn<'_>, id: SessionId) -> bool {
        let sessions = &mut self.delivery.sessions;
        let source = sessions.get(id).and_then(|session| session.source(turn));
        let user = source.unwrap_or_else(|| sessions.users().name_of(sessions.user_of(id)).name().into());
        sessions.of_connection(id).record_will(turn, &user)
    }

    /// Records that a session goes on without a connection since a moment.
    pub(super) fn record_detached(&mut self, turn: &mut Turn<'_>, id: SessionId, since: Instant) {
        let at_ms = since.as_ms();
        let session = self.delivery.sessions.get(id);
        if let (Some(recorder), Some(number)) = (turn.recorder(), session.and_then(Session::number)) {
            recorder.write(&Body::Detached { session: number.get(), at_ms });
        }
    }

    /// Records that a session ends, before it does.
    pub(super) fn record_ended(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        self.record_taken(turn);
        let Some(recorder) = turn.recorder() else { return };
        let Some(session) = self.delivery.sessions.get(id) else { return };
        let Some(number) = session.number() else { return };
        let mut owed = Vec::new();
        session.append_owed(&mut owed);
        recorder.write(&Body::Ended { session: number.get(), owed: Numbers::of(&owed) });
    }

    /// Records a subscription, or new options of it.
    pub(super) fn record_subscribed(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        filter: &TopicFilter<'_>,
        terms: ReplayTerms,
        looks_up: bool,
    ) {
        self.record_taken(turn);
        let Some(recorder) = turn.recorder() else { return };
        let session = self.delivery.sessions.get(id).and_then(Session::recorded_number);
        let Some(session) = session else { return };
        recorder.write(&Body::Subscribed {
            session: session.get(),
            filter: filter.as_str(),
            options: terms.options,
            identifier: terms.identifier,
            look_up_since: looks_up.then(|| self.delivery.publish_sequence()),
        });
    }

    /// Records the end of a subscription, and the messages that its group gets back.
    pub(super) fn record_unsubscribed(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        filter: &TopicFilter<'_>,
    ) {
        self.record_taken(turn);
        let Some(session) = self.delivery.sessions.get(id) else { return };
        let (Some(recorder), Some(number)) = (turn.recorder(), session.recorded_number()) else { return };
        let mut owed = Vec::new();
        if filter.share_name().is_some()
            && let Some(group) = self.topics.group_named(filter)
        {
            session.append_queued_of(GroupTag::of(group), &mut owed);
        }
        let (session, filter, owed) = (number.get(), filter.as_str(), Numbers::of(&owed));
        recorder.write(&Body::Unsubscribed { session, filter, owed });
    }
}
