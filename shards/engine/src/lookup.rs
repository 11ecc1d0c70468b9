//! Look-ups of retained messages for new subscriptions, in slices: a million retained messages and a
//! `#` must not hold up a turn.
//! Knows no SUBSCRIBE; it is told the filter and the options.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use wire::packet::SubscribeOptions;
use wire::{SubscriptionId, TopicFilter};

use crate::engine::Engine;
use crate::event::Actions;
use crate::flow::{Grant, Identifiers};
use crate::message::MessageKey;
use crate::retained::{Cursor, Retained};
use crate::session::SessionId;
use crate::time::Instant;

/// Topics looked at in one slice.
const SLICE_TOPICS_MAX: usize = 1024;
/// Messages delivered in one slice.
const SLICE_MESSAGES_MAX: usize = 128;
/// Slices in one step, over all sessions.
const SLICES_PER_STEP_MAX: usize = 4;
/// Topics of live messages that one session's look-ups remember.
const LIVE_TOPICS_MAX: usize = 4096;

/// What a session's subscriptions are still owed of the retained store.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// By filter, so that subscribing again replaces in no time; bounded by the subscriptions.
    waiting: BTreeMap<Box<str>, Lookup>,
    /// Hash of a topic to the last live message of it that the session was sent meanwhile: whatever is
    /// retained there may not follow it [MQTT-4.6.0-5]. Past `LIVE_TOPICS_MAX` none is added: from then on
    /// what is retained later than the subscription counts as sent, and what is older may come late; it
    /// has the RETAIN flag.
    live: BTreeMap<u64, u64>,
}

/// A subscription that is owed retained messages.
#[derive(Debug)]
struct Lookup {
    options: SubscribeOptions,
    identifier: Option<SubscriptionId>,
    cursor: Cursor,
    /// The last publish before the subscription: later ones may have reached the session live.
    subscribed_at: u64,
}

impl Lookups {
    /// Remembers a live message on its way to the session.
    pub(crate) fn note_live(&mut self, topic_hash: u64, sequence: u64) {
        if self.live.len() < LIVE_TOPICS_MAX || self.live.contains_key(&topic_hash) {
            self.live.insert(topic_hash, sequence);
        }
    }
}

impl Engine {
    pub(crate) fn open_lookup(
        &mut self,
        id: SessionId,
        filter: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) {
        if self.retained.len() == 0 {
            return;
        }
        if !filter.has_wildcard() && self.retained.get(filter.filter()).is_none() {
            return;
        }
        let lookup =
            Lookup { options, identifier, cursor: Cursor::Start, subscribed_at: self.publish_sequence };
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        session.lookups.get_or_insert_default().waiting.insert(filter.filter().into(), lookup);
    }

    /// Forgets the look-up of a filter that is subscribed to no more.
    pub(crate) fn close_lookup(&mut self, id: SessionId, filter: &TopicFilter<'_>) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        if let Some(lookups) = &mut session.lookups
            && filter.share_name().is_none()
        {
            lookups.waiting.remove(filter.filter());
        }
    }

    /// Lets the look-ups of a session go on if there is something to do and room for it.
    pub(crate) fn schedule_lookups(&mut self, id: SessionId) {
        let Some(session) = self.delivery.sessions.get_mut(id.0) else { return };
        if session.lookups.is_some() && !session.lookup_scheduled {
            session.lookup_scheduled = true;
            self.lookups.push_back(id);
        }
    }

    /// Does a few slices, for the sessions in turn.
    pub(crate) fn run_lookups(&mut self, now: Instant, actions: &mut Actions) {
        for _ in 0..SLICES_PER_STEP_MAX {
            let Some(id) = self.lookups.pop_front() else { return };
            let Some(session) = self.delivery.sessions.get_mut(id.0) else { continue };
            session.lookup_scheduled = false;
            if !self.has_lookup_room(id) {
                // An acknowledgement, a sent outbox or a new connection schedules it again.
                continue;
            }
            self.lookup_slice(now, id, actions);
            self.schedule_lookups(id);
        }
    }

    /// Retained messages come from a store that can wait, so they never fill a queue: half a box and all
    /// of the queue belong to what is published meanwhile.
    fn has_lookup_room(&self, id: SessionId) -> bool {
        let limits = &self.delivery.limits;
        let session = self.delivery.sessions.get(id.0).expect("the caller found it");
        let Some(connection) = session.connection.and_then(|id| self.delivery.connections.get(id.0)) else {
            return false;
        };
        connection.is_open()
            && connection.outbox.bytes() * 2 < u64::from(limits.outbox_bytes_max)
            && session.queued_count() == 0
    }

    fn lookup_slice(&mut self, now: Instant, id: SessionId, actions: &mut Actions) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let Some(lookups) = &mut session.lookups else { return };
        let Some((text, mut lookup)) = lookups.waiting.pop_first() else {
            session.lookups = None;
            return;
        };
        let Lookup { options, identifier, subscribed_at, .. } = lookup;
        let hasher = self.delivery.hasher;
        let own = options.no_local.then(|| hasher.fingerprint(&session.client_id)).flatten();
        let is_wanted = |topic: &str, retained: &Retained| {
            let was_sent = match lookups.live.get(&hasher.bytes(topic.as_bytes())) {
                Some(live) => *live > subscribed_at,
                None => lookups.live.len() == LIVE_TOPICS_MAX && retained.sequence > subscribed_at,
            };
            !was_sent && (own.is_none() || retained.publisher != own)
        };
        let filter = TopicFilter::parse(&text).expect("it was parsed when it was subscribed to");
        let mut found: Vec<MessageKey> = Vec::new();
        if filter.has_wildcard() {
            self.retained.slice(&filter, &mut lookup.cursor, SLICE_TOPICS_MAX, |topic, retained| {
                if found.len() == SLICE_MESSAGES_MAX {
                    return false;
                }
                if is_wanted(topic, retained) {
                    found.push(retained.message);
                }
                true
            });
        } else {
            let retained = self.retained.get(&text).filter(|retained| is_wanted(&text, retained));
            found.extend(retained.map(|retained| retained.message));
            lookup.cursor = Cursor::Done;
        }
        for message in found {
            if !self.has_lookup_room(id) {
                // This one and the rest come when there is room.
                lookup.cursor = Cursor::At(self.delivery.messages.view(message).topic.into());
                break;
            }
            self.deliver_retained(now, id, message, options, identifier, actions);
        }
        let session = self.delivery.sessions.get_mut(id.0).expect("a delivery ends no session");
        let lookups = session.lookups.as_mut().expect("seen above");
        match lookup.cursor {
            Cursor::Done if lookups.waiting.is_empty() => session.lookups = None,
            Cursor::Done => {}
            Cursor::Start | Cursor::At(_) | Cursor::After(_) => {
                lookups.waiting.insert(text, lookup);
            }
        }
    }

    fn deliver_retained(
        &mut self,
        now: Instant,
        id: SessionId,
        message: MessageKey,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
        actions: &mut Actions,
    ) {
        let view = self.delivery.messages.view(message);
        if view.is_expired(now) {
            // It is no longer there for anyone [MQTT-3.3.2-5].
            let topic: Box<str> = view.topic.into();
            if let Some(expired) = self.retained.remove(&topic) {
                self.retained.bytes_held -= self.delivery.messages.bytes_of(expired);
                self.delivery.messages.release(expired);
            }
            return;
        }
        let mut copy = core::mem::take(&mut self.stored_copy);
        let mut source = self.delivery.stored_source(message, &mut copy);
        let grant = Grant {
            qos: source.view.qos.min(options.qos),
            // Sent because of the subscription, so the flag is set [3.3.1.3].
            retain: true,
            identifiers: Identifiers::from(identifier),
        };
        self.delivery.offer(now, id.0.index, grant, &mut source, actions);
        self.delivery.finish(&source);
        self.stored_copy = copy;
    }
}
