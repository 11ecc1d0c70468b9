//! Look-ups of retained messages for new subscriptions, in slices: a million retained messages and a
//! `#` must not hold up a turn.
//! Knows no SUBSCRIBE; it is told the filter and the options.

use alloc::boxed::Box;
use alloc::vec::Vec;

use wire::packet::SubscribeOptions;
use wire::{SubscriptionId, TopicFilter};

use crate::engine::Engine;
use crate::event::Actions;
use crate::flow::{Grant, Identifiers};
use crate::message::MessageKey;
use crate::retained::Cursor;
use crate::session::SessionId;
use crate::time::Instant;

/// Topics looked at in one slice.
const SLICE_TOPICS_MAX: usize = 1024;
/// Messages delivered in one slice.
const SLICE_MESSAGES_MAX: usize = 128;
/// Slices in one step, over all sessions.
const SLICES_PER_STEP_MAX: usize = 4;

/// A subscription that is owed retained messages.
#[derive(Debug)]
pub(crate) struct Lookup {
    filter: Box<str>,
    options: SubscribeOptions,
    identifier: Option<SubscriptionId>,
    cursor: Cursor,
    /// What was retained after this publish reached the subscriber live; sending it again would be a
    /// second delivery.
    sequence_max: u64,
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
        self.close_lookup(id, filter);
        let lookup = Lookup {
            filter: filter.filter().into(),
            options,
            identifier,
            cursor: Cursor::Start,
            sequence_max: self.publish_sequence,
        };
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        session.lookups.get_or_insert_default().push_back(lookup);
    }

    /// Forgets the look-up of a filter that is subscribed to again or no more.
    pub(crate) fn close_lookup(&mut self, id: SessionId, filter: &TopicFilter<'_>) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        if let Some(lookups) = &mut session.lookups
            && filter.share_name().is_none()
        {
            lookups.retain(|lookup| *lookup.filter != *filter.filter());
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

    /// Retained messages come from a store that can wait, so they never fill a queue: half a box and
    /// half a queue belong to what is published meanwhile.
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
        let Some(lookup) = session.lookups.as_mut().and_then(|lookups| lookups.front_mut()) else {
            session.lookups = None;
            return;
        };
        let filter = TopicFilter::parse(&lookup.filter).expect("it was parsed when it was subscribed to");
        let sequence_max = lookup.sequence_max;
        let mut found: Vec<MessageKey> = Vec::new();
        if filter.has_wildcard() {
            let (retained, cursor) = (&self.retained, &mut lookup.cursor);
            retained.slice(&filter, cursor, SLICE_TOPICS_MAX, |message, sequence| {
                if found.len() == SLICE_MESSAGES_MAX {
                    return false;
                }
                if sequence <= sequence_max {
                    found.push(message);
                }
                true
            });
        } else {
            found.extend(
                self.retained
                    .get(&lookup.filter)
                    .filter(|(_, sequence)| *sequence <= sequence_max)
                    .map(|(message, _)| message),
            );
            lookup.cursor = Cursor::Done;
        }
        let done = matches!(lookup.cursor, Cursor::Done);
        let (options, identifier) = (lookup.options, lookup.identifier);
        if done && let Some(lookups) = &mut session.lookups {
            lookups.pop_front();
            if lookups.is_empty() {
                session.lookups = None;
            }
        }
        for message in found {
            self.deliver_retained(now, id, message, options, identifier, actions);
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
