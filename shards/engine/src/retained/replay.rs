//! Replay of retained messages to new subscriptions, page by page: a million retained messages and a `#` must not hold
//! up a turn. Pages of another shard's store are requested and answered over lanes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use bytes::Bytes;
use wire::TopicFilter;

use super::Retained;
use super::pages::{PageRequest, REQUESTS_MAX};
use super::source::SourceJudge;
use crate::base::ids::{MessageKey, SessionId};
use crate::message::forwarded::ForwardedPublish;
use crate::message::origin::Origin;
use crate::publish::Delivery;
use crate::publish::fan_out::FanOut;
use crate::record::{Body, LookedUp, Recorder};
use crate::session::grant::{Grant, Identifiers};
use crate::session::replays::{Cursor, Replay, ReplayShards, ReplayTerms, Replays, RequestId};
use crate::session::table::Sessions;
use crate::turn::Turn;

/// A request for a page, to be sent to the shard that has the store.
#[derive(Debug)]
pub(crate) struct PageQuery {
    target: u16,
    id: RequestId,
    filter: Box<str>,
    topic: Option<Box<str>>,
    is_seen: bool,
    required: Vec<Origin>,
}

impl PageQuery {
    pub(crate) fn target(&self) -> u16 {
        self.target
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// The topic where the page begins, and whether that topic was answered already.
    pub(crate) fn start(&self) -> (Option<&str>, bool) {
        (self.topic.as_deref(), self.is_seen)
    }

    /// The updates that the answer has to count.
    pub(crate) fn required(&self) -> &[Origin] {
        &self.required
    }
}

/// The progress of one session's replays.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A page was delivered, or nothing could be done.
    Page,
    /// The next page is on another shard.
    Query(PageQuery),
}

impl Retained {
    /// Whether a replay of `filter` from `shards` would find nothing.
    pub(crate) fn has_nothing_for(&self, filter: &TopicFilter<'_>, shards: ReplayShards) -> bool {
        shards.is_only(self.own) && (self.store.len() == 0 || self.store.has_not(filter))
    }

    /// Lets the replays of a session go on if there is something to do.
    pub(crate) fn schedule(&mut self, sessions: &mut Sessions, id: SessionId) {
        let Some(session) = sessions.get_mut(id) else { return };
        let may_go_on = session.replays().is_some_and(|replays| !replays.has_open_request());
        if may_go_on && session.schedule_replays() {
            self.scheduled.push_back(id);
        }
    }

    /// Whether no replay can go on and no request can be answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.scheduled.is_empty() && self.page_requests.is_idle()
    }

    /// Lets the replays of the next session go on by one page; `None` if none is scheduled.
    pub(crate) fn run_next(&mut self, turn: &mut Turn<'_>, delivery: &mut Delivery) -> Option<Progress> {
        let id = self.scheduled.pop_front()?;
        turn.spend(1);
        let Some(session) = delivery.sessions.get_mut(id) else { return Some(Progress::Page) };
        session.unschedule_replays();
        if !has_room(turn, delivery, id) {
            // An acknowledgement, a sent outbox or a new connection schedules it again.
            return Some(Progress::Page);
        }
        let query = self.replay_page(turn, delivery, id);
        self.schedule(&mut delivery.sessions, id);
        Some(query.map_or(Progress::Page, Progress::Query))
    }

    /// Lets the replays of a session go on at once, out of the store of this shard, as far as the step has time: once its SUBACK has left,
    /// so that a message which is published right behind the SUBSCRIBE comes after the retained ones, and replaces none of them.
    pub(crate) fn begin(&mut self, turn: &mut Turn<'_>, delivery: &mut Delivery, id: SessionId) {
        while !turn.is_spent() && has_room(turn, delivery, id) && self.may_begin(delivery, id) {
            turn.spend(1);
            let query = self.replay_page(turn, delivery, id);
            assert!(query.is_none());
        }
    }

    /// Whether the next page for a session is in the store of this shard, and nothing that is to come before waits.
    fn may_begin(&self, delivery: &Delivery, id: SessionId) -> bool {
        let Some(session) = delivery.sessions.get(id) else { return false };
        let connection = session.connection().and_then(|id| delivery.connections.get(id));
        let is_answered = connection.is_some_and(|connection| !connection.awaits_gate());
        is_answered && session.replays().and_then(Replays::next_target) == Some(self.own)
    }

    fn replay_page(
        &mut self,
        turn: &mut Turn<'_>,
        delivery: &mut Delivery,
        id: SessionId,
    ) -> Option<PageQuery> {
        let session = delivery.sessions.get_mut(id)?;
        let Some((filter, mut replay)) = session.replays_mut()?.take_next() else {
            session.note_replays(turn.held_mut());
            return None;
        };
        if replay.target() != self.own {
            let query = self.request_page(&mut delivery.sessions, id, filter, replay);
            delivery.sessions.get_mut(id)?.note_replays(turn.held_mut());
            return query;
        }
        let (terms, since) = (replay.terms(), replay.since());
        let own = terms.options.no_local.then(|| self.fingerprints.of_publisher(session.client_id()));
        let own = own.flatten();
        let replays = delivery.sessions.get(id)?.replays()?;
        let judge = SourceJudge::new(turn, delivery.sessions.users());
        let (found, work) = self.store.page_of(&filter, replay.cursor_mut(), |topic, entry| {
            let hash = delivery.topic_hash(topic);
            let was_live =
                replays.was_delivered_live(hash, since.publish(), entry.origin(), Some(entry.sequence()));
            !was_live && (own.is_none() || entry.publisher() != own) && judge.allows(topic, entry)
        });
        turn.counters.retained_unread += judge.unread_count();
        turn.spend(work);
        for message in found {
            if !has_room(turn, delivery, id) {
                // This message and the rest come when there is room.
                *replay.cursor_mut() = Cursor::At(delivery.messages.view(message).topic.into());
                break;
            }
            self.deliver_stored(turn, delivery, id, message, terms);
        }
        let session = delivery.sessions.get_mut(id)?;
        if let (Some(recorder), Some(number)) = (turn.recorder(), session.recorded_number()) {
            record_progress(recorder, (number, self.own), &filter, replay.cursor());
        }
        session.replays_or_new().finish_page(filter, replay);
        session.note_replays(turn.held_mut());
        None
    }

    /// Requests a page of another shard, or waits: until every shard knows the subscription and has reported the updates
    /// that it sent before, and until one of our requests is answered.
    fn request_page(
        &mut self,
        sessions: &mut Sessions,
        id: SessionId,
        filter: Box<str>,
        replay: Replay,
    ) -> Option<PageQuery> {
        let session = sessions.get_mut(id)?;
        let target = replay.target();
        assert!(target != self.own);
        let open_request_count = &mut self.open_request_counts[usize::from(target)];
        let is_early = replay.since().announced() > self.watermarks.acknowledged_by_all();
        if is_early || *open_request_count >= REQUESTS_MAX {
            session.replays_or_new().put_back(filter, replay);
            // It counts as scheduled, so that it is in one list only.
            if session.schedule_replays() {
                self.blocked.push_back(id);
            }
            return None;
        }
        *open_request_count += 1;
        self.requests_made = self.requests_made.wrapping_add(1);
        let (topic, is_seen) = replay.cursor().topic();
        let query = PageQuery {
            target,
            id: RequestId::new(id, self.requests_made),
            filter: filter.clone(),
            topic: topic.map(Box::from),
            is_seen,
            required: self.watermarks.required(target),
        };
        session.replays_or_new().open_request(self.requests_made, filter, replay);
        Some(query)
    }

    /// A request of another shard came in.
    pub(crate) fn on_page_request(&mut self, request: PageRequest) {
        self.page_requests.push(request, &self.watermarks);
    }

    /// The next request of another shard that can be answered.
    pub(crate) fn pop_page_request(&mut self) -> Option<PageRequest> {
        self.page_requests.pop_ready()
    }

    /// An update of another shard was taken in here, at the home of its topic.
    pub(crate) fn apply_update(&mut self, update: Origin) {
        assert!(update.shard != self.own);
        self.watermarks.apply(update);
        self.page_requests.update_applied(&self.watermarks);
    }

    /// A retained message that this shard requested. It is discarded if its replay has ended or does not want it.
    pub(crate) fn on_retained(
        &mut self,
        turn: &mut Turn<'_>,
        delivery: &mut Delivery,
        id: RequestId,
        answer: &ForwardedPublish<'_>,
        attached: Option<&Bytes>,
    ) {
        let ForwardedPublish { view: message, publisher, origin, .. } = *answer;
        assert!(message.retain);
        let topic_hash = delivery.topic_hash(message.topic);
        let Some(session) = delivery.sessions.get_mut(id.session()) else { return };
        let Some(replays) = session.replays_mut() else { return };
        let Some(replay) = replays.answered(id.number(), message.topic) else { return };
        let (terms, since, target) = (replay.terms(), replay.since(), replay.target());
        let was_live = replays.was_delivered_live(topic_hash, since.publish(), origin, None);
        let is_local = terms.options.no_local
            && publisher.client().is_some()
            && publisher.client() == self.fingerprints.of_publisher(session.client_id());
        if was_live || is_local || message.is_expired(turn.now) {
            return;
        }
        let replays = session.replays().filter(|_| turn.is_recording());
        let filter = replays.and_then(|replays| replays.requested(id.number())).map(Box::<str>::from);
        let number = session.recorded_number();
        let mut fan_out = delivery.begin(&message, attached, None, None);
        deliver_retained(turn, delivery, id.session(), &mut fan_out, terms);
        if let Some(((number, filter), recorder)) = number.zip(filter).zip(turn.recorder()) {
            record_progress(recorder, (number, target), &filter, &Cursor::After(message.topic.into()));
        }
    }

    /// A page that this shard requested of `source` is complete.
    pub(crate) fn on_page_end(
        &mut self,
        turn: &mut Turn<'_>,
        sessions: &mut Sessions,
        source: u16,
        id: RequestId,
        cursor: Option<&str>,
    ) {
        let open_request_count = &mut self.open_request_counts[usize::from(source)];
        assert!(*open_request_count > 0);
        *open_request_count -= 1;
        self.unblock();
        let Some(session) = sessions.get_mut(id.session()) else { return };
        let place = session.replays().filter(|_| turn.is_recording());
        let place = place.and_then(|replays| replays.place_after(id.number(), cursor));
        if session.replays_mut().is_some_and(|replays| replays.end_request(id.number(), cursor)) {
            if let Some((filter, cursor)) = place
                && let Some((number, recorder)) = session.recorded_number().zip(turn.recorder())
            {
                record_progress(recorder, (number, source), &filter, &cursor);
            }
            session.note_replays(turn.held_mut());
            self.schedule(sessions, id.session());
        }
    }

    /// Lets replays go on that waited for something from another shard. They count as scheduled already, so that this
    /// costs the same however many there are.
    pub(crate) fn unblock(&mut self) {
        self.scheduled.append(&mut self.blocked);
    }

    fn deliver_stored(
        &mut self,
        turn: &mut Turn<'_>,
        delivery: &mut Delivery,
        id: SessionId,
        message: MessageKey,
        terms: ReplayTerms,
    ) {
        if self.store.remove_if_expired(turn, delivery.retention(), message) {
            return;
        }
        let copy = delivery.lend_copy(message);
        let view = copy.view();
        let mut fan_out = delivery.begin_stored(message, &view, copy.shared_payload());
        deliver_retained(turn, delivery, id, &mut fan_out, terms);
        delivery.return_copy(copy);
    }
}

/// Records how far the retained messages of a subscription were delivered from the store of a shard, right behind the last of them.
fn record_progress(recorder: &mut Recorder, of: (NonZeroU64, u16), filter: &str, cursor: &Cursor) {
    let cursor = match cursor {
        Cursor::Start => return,
        Cursor::At(topic) => LookedUp::At(topic),
        Cursor::After(topic) => LookedUp::After(topic),
        Cursor::Done => LookedUp::Done,
    };
    let (session, shard) = (of.0.get(), of.1);
    recorder.write(&Body::LookedUp { session, filter, shard, cursor });
}

/// Whether a session may be sent retained messages. Their store can wait, so they never fill a queue: half the outbox and
/// all of the queue belong to messages that are published meanwhile.
fn has_room(turn: &Turn<'_>, delivery: &Delivery, id: SessionId) -> bool {
    let Some(session) = delivery.sessions.get(id) else { return false };
    let connection = session.connection().and_then(|id| delivery.connections.get(id));
    connection.is_some_and(|connection| connection.may_replay(turn.limits)) && session.queued_count() == 0
}

fn deliver_retained(
    turn: &mut Turn<'_>,
    delivery: &mut Delivery,
    id: SessionId,
    fan_out: &mut FanOut<'_>,
    terms: ReplayTerms,
) {
    let grant = Grant {
        qos: fan_out.message().qos.min(terms.options.qos),
        // It is sent because of the subscription, so the flag is set [3.3.1.3].
        retain: true,
        group: None,
        identifiers: Identifiers::from(terms.identifier),
    };
    delivery.offer(turn, id.index(), grant, fan_out);
    delivery.finish(turn, fan_out);
}
