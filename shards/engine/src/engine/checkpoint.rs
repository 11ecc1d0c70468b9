//! Checkpoints: everything that the log has to say, as objects, so that the log before can be deleted.
//!
//! Invariants: an object is described as it is after every record that the host has taken, and so a record of the log before that is
//! skipped for it. Nothing is described while a fan-out is under way or a session is given up, because these are between two
//! states of the log.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::iter;

use super::{Engine, Rooms};
use crate::base::ids::SessionId;
use crate::base::time::Instant;
use crate::message::user_name::UserName;
use crate::record::{Body, Crossing, DeliveryList, Objects, StoredBody, TargetList};
use crate::session::Session;
use crate::session::snapshot::SubscriptionRecord;
use crate::timer::Timers;
use crate::topic::sys::is_sys;

/// Sessions that are looked at for one slice, most of which may not be in the log.
const SESSIONS_MAX: u32 = 256;
/// Topics that are looked at for one slice.
const TOPICS_MAX: usize = 1_024;

/// How far a checkpoint has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckpointCursor(Place);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    /// From the session in this slot on.
    Sessions(u32),
    /// Behind this topic of the retained store.
    Retained(Option<Box<str>>),
    /// Behind the open transfer with this number.
    Transfers(u64),
}

impl Default for Place {
    fn default() -> Self {
        Self::Sessions(0)
    }
}

impl Engine {
    /// Whether a slice of a checkpoint can be taken, and so one begin: the host has taken all records, and the log has no part of
    /// something that has not ended. Otherwise a later turn tries again.
    #[must_use]
    pub fn may_checkpoint(&self) -> bool {
        self.recorder.as_ref().is_none_or(|recorder| recorder.is_empty()) && !self.rooms.is_between_records()
    }

    /// Appends the next slice of a checkpoint: records of about `bytes_max` bytes, one object at least. Returns where the next one goes
    /// on, or `None` after the last. The first call has the default cursor.
    ///
    /// Its `as_of` is the position of the log behind everything that [`Engine::records`] returned: to be called right after that, with
    /// no step in between. A checkpoint begins at the `as_of` of its first slice.
    ///
    /// # Panics
    /// Unless [`Engine::may_checkpoint`].
    pub fn checkpoint(
        &self,
        now: Instant,
        cursor: CheckpointCursor,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Option<CheckpointCursor> {
        assert!(self.may_checkpoint());
        let mut objects = Objects::new(out);
        let bytes_max = objects.bytes().saturating_add(bytes_max);
        let next = match cursor.0 {
            Place::Sessions(from) => {
                Some(self.rooms.append_sessions(&mut objects, bytes_max, (&self.timers, now), from))
            }
            Place::Retained(after) => {
                Some(self.rooms.append_retained(&mut objects, bytes_max, after.as_deref()))
            }
            Place::Transfers(after) => self.rooms.append_transfers(&mut objects, bytes_max, after),
        };
        next.map(CheckpointCursor)
    }
}

impl Rooms {
    /// Whether something has begun of which the log has only a part.
    fn is_between_records(&self) -> bool {
        !self.backlog.is_empty() || self.shared.reassignment_count() > 0
    }

    fn append_sessions(
        &self,
        objects: &mut Objects<'_>,
        bytes_max: usize,
        moment: (&Timers, Instant),
        from: u32,
    ) -> Place {
        let sessions = &self.delivery.sessions;
        let end = from.saturating_add(SESSIONS_MAX).min(sessions.slot_count());
        for index in from..end {
            let known = sessions.id_at(index).and_then(|id| Some((id, sessions.get(id)?)));
            if let Some((id, session)) = known {
                self.append_session(objects, moment, id, session);
            }
            if objects.bytes() >= bytes_max {
                return Place::Sessions(index + 1);
            }
        }
        if end < sessions.slot_count() { Place::Sessions(end) } else { Place::Retained(None) }
    }

    fn append_session(
        &self,
        objects: &mut Objects<'_>,
        moment: (&Timers, Instant),
        id: SessionId,
        session: &Session,
    ) {
        assert!(!session.has_ended());
        let sessions = &self.delivery.sessions;
        let user = sessions.users().name_of(sessions.user_of(id)).name();
        // Roles of a token end with the connection that it let in.
        let names_client = !user.is_empty() && session.has_will();
        let source = names_client.then(|| UserName::source(user, session.client_id(), iter::empty()));
        session.append_will(objects, source.as_deref().unwrap_or(user));
        let key_of = |group: crate::topic::groups::GroupTag| self.topics.group_key(group.group());
        session.append_owed_deliveries(objects, &self.delivery.messages, key_of);
        let Some(number) = session.number() else { return };
        session.append_session(objects, number, user);
        if session.is_persistent() {
            let list = session.subscriptions();
            self.topics.for_each(list, |share_name, filter, member| {
                let text = SubscriptionRecord::new(share_name, filter, member).topic_filter;
                let is_shared = share_name.is_some();
                let look_up_since = if is_shared { None } else { session.look_up_of(filter) };
                let subscribed = |look_up_since| Body::Subscribed {
                    session: number.get(),
                    filter: &text,
                    options: member.options(),
                    identifier: member.identifier(),
                    look_up_since,
                };
                objects.write(&subscribed(look_up_since));
                if look_up_since.is_some() {
                    session.append_look_up(objects, number, filter);
                    // It was subscribed to again meanwhile.
                    if let Some(since) = session.repeated_look_up_of(filter) {
                        objects.write(&subscribed(Some(since)));
                    }
                }
            });
        }
        session.append_deliveries(objects, &self.delivery.messages, moment, key_of);
    }

    fn append_retained(&self, objects: &mut Objects<'_>, bytes_max: usize, after: Option<&str>) -> Place {
        let mut last = None;
        for (topic, entry) in self.retained.store().after(after).take(TOPICS_MAX) {
            if objects.bytes() >= bytes_max && last.is_some() {
                return Place::Retained(last.map(Box::from));
            }
            last = Some(topic);
            if is_sys(topic) {
                continue;
            }
            let user = self.delivery.sessions.users().name_of(entry.user()).name();
            let publisher = entry.publisher().map_or(0, core::num::NonZeroU64::get);
            let origin = entry.origin();
            objects.write(&Body::Message {
                number: entry.sequence(),
                sender: None,
                ends: None,
                will: None,
                stored: Some(StoredBody::new((publisher, user), (origin.shard, origin.sequence))),
                crossing: Crossing::default(),
                deliveries: DeliveryList::default(),
                content: Some(self.delivery.messages.view(entry.message()).content()),
                goes_on: false,
            });
        }
        last.map_or(Place::Transfers(0), |last| Place::Retained(Some(last.into())))
    }

    /// Appends the transfers that other shards have not settled, each with its message, and before the first the ones that were taken in.
    fn append_transfers(&self, objects: &mut Objects<'_>, bytes_max: usize, mut after: u64) -> Option<Place> {
        let transfers = self.mesh.transfers();
        if after == 0 {
            for (source, sequence) in transfers.taken() {
                objects.write(&Body::Taken { source, sequence });
            }
        }
        while let Some((number, message, targets, left)) = transfers.open_after(after) {
            if objects.bytes() >= bytes_max && after > 0 {
                return Some(Place::Transfers(after));
            }
            after = number;
            let mut open = Vec::new();
            let targets = targets.iter().filter(|target| left.contains(target.shard()));
            targets.for_each(|target| target.encode(&mut open));
            objects.write(&Body::Message {
                number,
                sender: None,
                ends: None,
                will: None,
                stored: None,
                crossing: Crossing::new(None, TargetList::of(&open)),
                deliveries: DeliveryList::default(),
                content: Some(self.delivery.messages.view(message).content()),
                goes_on: false,
            });
        }
        None
    }
}
