//! The table of this shard's sessions: creates, finds, attaches, detaches and ends them.
//!
//! Invariants: every session that has not ended is in `by_client` exactly once, and the others, whose messages and
//! subscriptions are still being given up, are counted by `ended_count`; a session names a user of `users`, or none; `attached_count` is the number of sessions with a
//! connection; `will_bytes` is the sum of their wills' bytes.

use alloc::boxed::Box;

use super::access::Access;
use super::replays::Replays;
use super::snapshot::SessionExpiry;
use super::user::{UserId, Users};
use super::will::Will;
use super::{Deliveries, Session, interval_end};
use crate::base::hash::Keyed;
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::index::Index;
use crate::base::slab::Slab;
use crate::base::sparse::Sparse;
use crate::memory::Held;
use crate::message::user_name::UserName;
use crate::timer::Timer;
use crate::turn::Turn;

/// **Lives on:** every shard. **Sees:** the sessions whose client identifiers are at home here.
#[derive(Debug)]
pub(crate) struct Sessions {
    slab: Slab<Session>,
    by_client: Index,
    hasher: Keyed,
    attached_count: u32,
    /// Sessions that have ended and still hold something.
    ended_count: u32,
    /// Grows whenever the subscriptions of a session that outlives its connection change.
    records_version: u64,
    will_bytes: u64,
    /// Of client identifiers that are too long for their slots.
    identifier_bytes: u64,
    users: Users,
    /// Of users and standings before the rules.
    access_bytes: u64,
    /// By slot: the user of each session; `None` for nobody, or for an anonymous client without rules. Beside the sessions and not in
    /// them, so that a shard without users pays nothing for it.
    owners: Sparse<UserId>,
}

/// The work that a lost connection leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Detached {
    /// The session has ended with its connection: [`Sessions::begin_end`] is due.
    Ends,
    /// The session goes on offline; its will is due at once.
    WillDue,
    /// The session goes on offline.
    GoesOn,
}

impl Sessions {
    pub(crate) fn new(hasher: Keyed) -> Self {
        Self {
            // No identity of a session leaves the engine, so none that comes back can be stale.
            slab: Slab::new(u32::BITS),
            by_client: Index::new(),
            hasher,
            attached_count: 0,
            ended_count: 0,
            records_version: 0,
            will_bytes: 0,
            identifier_bytes: 0,
            users: Users::new(hasher),
            access_bytes: 0,
            owners: Sparse::default(),
        }
    }

    /// Sessions that have not ended.
    pub(crate) fn len(&self) -> u32 {
        self.slab.len() - self.ended_count
    }

    /// Sessions with a connection.
    pub(crate) fn attached_count(&self) -> u32 {
        self.attached_count
    }

    pub(crate) fn will_bytes(&self) -> u64 {
        self.will_bytes
    }

    /// Bytes of slots, identifiers, the table of names, and users.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let tables = self.by_client.bytes_held() + self.owners.bytes_held();
        let names = self.identifier_bytes + tables + self.users.memory_bytes();
        self.slab.bytes_held() + names + self.access_bytes
    }

    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    pub(crate) fn users_mut(&mut self) -> &mut Users {
        &mut self.users
    }

    /// The user of a session that may have ended.
    pub(crate) fn user_of(&self, id: SessionId) -> Option<UserId> {
        assert!(self.get(id).is_some() || self.user_at(id.index()).is_none());
        self.user_at(id.index())
    }

    /// The source of the retained messages of a session that may have ended, or its user where no rules are in force. One more place
    /// names it.
    pub(crate) fn hold_source(&mut self, turn: &Turn<'_>, id: SessionId) -> Option<UserId> {
        if let Some(source) = self.get(id).and_then(|session| session.source(turn)) {
            return self.users.hold_named(UserName::new(&source));
        }
        let user = self.user_of(id);
        self.users.hold(user);
        user
    }

    /// The user of the session in slot `index`.
    pub(crate) fn user_at(&self, index: u32) -> Option<UserId> {
        self.owners.get(index).copied()
    }

    /// Whether a session belongs to a user of another name. One of an anonymous client passes to the first user with a name, so that
    /// a fleet is not locked out when authentication begins; never back.
    pub(crate) fn is_of_another(&self, id: SessionId, name: UserName<'_>) -> bool {
        let owner = self.users.name_of(self.user_of(id)).name();
        !owner.is_empty() && owner != name.name()
    }

    /// Gives a session to a user.
    pub(crate) fn set_user(&mut self, id: SessionId, name: UserName<'_>) {
        let before = self.user_of(id);
        if before.is_none() && name.is_nobody() {
            return;
        }
        let user = self.users.hold_named(name);
        let session = self.of_connection(id);
        let changes_records = session.is_persistent() && session.subscriptions.count() > 0;
        match user {
            Some(user) => self.owners.set(id.index(), user),
            None => self.owners.take(id.index()),
        };
        self.records_version += u64::from(changes_records && before != user);
        self.users.release(before);
    }

    pub(crate) fn records_version(&self) -> u64 {
        self.records_version
    }

    /// The subscriptions of a session have changed. Returns whether the session is persistent.
    pub(crate) fn subscriptions_changed(&mut self, id: SessionId) -> bool {
        let persistent = self.get(id).is_some_and(Session::is_persistent);
        self.records_version += u64::from(persistent);
        persistent
    }

    pub(crate) fn find(&self, client_id: &str) -> Option<SessionId> {
        self.by_client
            .find(self.hasher.bytes(client_id.as_bytes()), |index| {
                self.slab.at(index).is_some_and(|session| *session.client_id == *client_id)
            })
            .and_then(|index| self.slab.key_at(index))
            .map(SessionId::new)
    }

    pub(crate) fn create(&mut self, client_id: &str) -> SessionId {
        let session = Session::new(client_id.into());
        self.identifier_bytes += session.identifier_bytes();
        let id = SessionId::new(self.slab.insert(session));
        self.by_client.insert(self.hasher.bytes(client_id.as_bytes()), id.index());
        assert!(self.by_client.len() == self.len() as usize);
        id
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.slab.get(id.key())
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slab.get_mut(id.key())
    }

    /// The session of an open connection.
    ///
    /// # Panics
    /// If it has ended; a connection leaves its session first.
    pub(crate) fn of_connection(&mut self, id: SessionId) -> &mut Session {
        self.get_mut(id).expect("an open connection has a session")
    }

    /// The session of a subscription, by its slot.
    ///
    /// # Panics
    /// If it has ended; a session gives up its subscriptions first.
    pub(crate) fn of_member(&self, index: u32) -> &Session {
        self.slab.at(index).expect("a subscription ends before its session")
    }

    /// [`Sessions::of_member`], to be changed.
    ///
    /// # Panics
    /// If it has ended.
    pub(crate) fn of_member_mut(&mut self, index: u32) -> &mut Session {
        self.slab.at_mut(index).expect("a subscription ends before its session")
    }

    /// The identity of what lives in slot `index`.
    pub(crate) fn id_at(&self, index: u32) -> Option<SessionId> {
        self.slab.key_at(index).map(SessionId::new)
    }

    /// One past the highest slot ever taken.
    pub(crate) fn slot_count(&self) -> u32 {
        self.slab.slot_count()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.slab.iter().map(|(key, session)| (SessionId::new(key), session))
    }

    /// Binds a session to a new connection. Its delayed will is cancelled, because the client is back in time
    /// [MQTT-3.1.3-9], and so is its expiry; everything in flight is to be sent again.
    pub(crate) fn attach(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        connection: ConnectionId,
        expiry_interval_s: u32,
        will: Option<Box<Will>>,
    ) {
        let session = self.of_connection(id);
        assert!(session.connection.is_none());
        session.connection = Some(connection);
        let keeps_records = session.expiry_interval_s > 0 || expiry_interval_s > 0;
        let changes_records = keeps_records && session.subscriptions.count() > 0;
        session.expiry_interval_s = expiry_interval_s;
        if let Some(timer) = session.expiry_timer.take() {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
        if session.deliveries.is_some() {
            session.change_deliveries(turn.held_mut(), |deliveries| deliveries.window.rewind());
        }
        self.records_version += u64::from(changes_records);
        self.attached_count += 1;
        assert!(self.attached_count <= self.slab.len());
        let before = self.replace_will(id, will);
        if let Some(will) = before {
            will.give_up(turn);
        }
    }

    /// A session serves a client with this access from now on.
    pub(crate) fn set_access(&mut self, id: SessionId, access: Option<Box<Access>>) {
        let (before, after) = self.of_connection(id).replace_access(access);
        self.access_bytes += after;
        assert!(self.access_bytes >= before);
        self.access_bytes -= before;
    }

    /// The client's DISCONNECT changes the Session Expiry Interval; `false` if it raises one of zero, which is a protocol
    /// error [3.14.2.2.2].
    pub(crate) fn change_expiry(&mut self, id: SessionId, interval_s: u32, interval_s_max: u32) -> bool {
        let session = self.of_connection(id);
        if session.expiry_interval_s == 0 && interval_s > 0 {
            return false;
        }
        session.expiry_interval_s = interval_s.min(interval_s_max);
        self.records_version += 1;
        true
    }

    /// Parts a session from its connection. Its expiry and the delay of its will begin.
    pub(crate) fn detach(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        connection: ConnectionId,
    ) -> Detached {
        let session = self.of_connection(id);
        assert!(session.connection == Some(connection));
        session.connection = None;
        if let Some(deliveries) = session.deliveries.take_if(|deliveries| deliveries.is_empty()) {
            turn.held_mut().note_deliveries(deliveries.heap_bytes(), 0);
        }
        if session.deliveries.is_some() {
            session.change_deliveries(turn.held_mut(), Deliveries::shrink_if_idle);
        }
        let expiry_interval_s = session.expiry_interval_s;
        if expiry_interval_s > 0 {
            assert!(session.expiry_timer.is_none());
            session.expiry_timer = set_expiry(turn, id, expiry_interval_s);
        }
        let is_will_due = expiry_interval_s > 0 && session.delay_will(turn, id, turn.now);
        assert!(self.attached_count > 0);
        self.attached_count -= 1;
        match (expiry_interval_s, is_will_due) {
            (0, _) => Detached::Ends,
            (_, true) => Detached::WillDue,
            (_, false) => Detached::GoesOn,
        }
    }

    /// Brings back a session that outlived the process, offline. At least a second of its interval is left, so that it ends by
    /// its timer.
    pub(crate) fn restore(
        &mut self,
        turn: &mut Turn<'_>,
        client_id: &str,
        expiry: SessionExpiry,
    ) -> SessionId {
        let SessionExpiry { interval_s, passed_s } = expiry;
        assert!(interval_s > 0);
        let id = self.create(client_id);
        let left_s = interval_s.saturating_sub(passed_s).max(1);
        let deadline = interval_end(turn.now, interval_s).map(|_| turn.now.plus_s(left_s));
        let session = self.of_connection(id);
        session.expiry_interval_s = interval_s;
        session.expiry_timer =
            deadline.map(|deadline| turn.timers.insert(deadline, Timer::SessionExpiry(id)));
        id
    }

    /// A session that the log has left this will.
    pub(crate) fn recover_will(&mut self, id: SessionId, will: Box<Will>) {
        let before = self.replace_will(id, Some(will));
        assert!(before.is_none());
    }

    /// The expiry timer of a session was due. `false` if the session has ended.
    pub(crate) fn expire(&mut self, id: SessionId) -> bool {
        self.get_mut(id).is_some_and(|session| session.expiry_timer.take().is_some())
    }

    /// Takes the will of a session out, to be published or forgotten.
    pub(crate) fn take_will(&mut self, id: SessionId) -> Option<Box<Will>> {
        self.replace_will(id, None)
    }

    /// Ends a session: from now on its client identifier names no session, nothing is delivered to it, and its timers are
    /// stopped. Returns its will. [`Sessions::remove`] follows once its messages and subscriptions are given up, which may
    /// take several steps.
    ///
    /// # Panics
    /// If it has a connection or has ended already.
    pub(crate) fn begin_end(&mut self, turn: &mut Turn<'_>, id: SessionId) -> Option<Box<Will>> {
        let will = self.take_will(id);
        let hasher = self.hasher;
        let session = self.of_connection(id);
        assert!(session.connection.is_none());
        assert!(!session.has_ended);
        let changes_records = session.is_persistent() && session.subscriptions.count() > 0;
        for timer in [session.expiry_timer.take(), will.as_ref().and_then(|will| will.timer())] {
            let was_set = timer.is_none_or(|timer| turn.timers.cancel(timer));
            assert!(was_set);
        }
        session.has_ended = true;
        // No member of a group any more that could keep a message.
        session.expiry_interval_s = 0;
        session.begin_giving_up(turn.held_mut());
        let hash = hasher.bytes(session.client_id.as_bytes());
        self.by_client.remove(hash, id.index());
        self.ended_count += 1;
        self.records_version += u64::from(changes_records);
        assert!(self.by_client.len() == self.len() as usize);
        will
    }

    /// Removes a session that has ended and has no subscription and no delivery left.
    pub(crate) fn remove(&mut self, id: SessionId) {
        let Some(session) = self.slab.remove(id.key()) else { return };
        assert!(session.has_ended);
        self.users.release(self.owners.take(id.index()));
        assert!(self.identifier_bytes >= session.identifier_bytes());
        self.identifier_bytes -= session.identifier_bytes();
        assert!(self.access_bytes >= session.access_bytes());
        self.access_bytes -= session.access_bytes();
        assert!(session.subscriptions.count() == 0);
        assert!(session.deliveries.is_none() && session.will.is_none() && session.replays.is_none());
        assert!(self.ended_count > 0);
        self.ended_count -= 1;
    }

    /// Sessions that have ended and still hold something.
    pub(crate) fn ended_count(&self) -> u32 {
        self.ended_count
    }

    /// Recomputes every count of the table, and the bytes that its sessions noted, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self, held: &Held) {
        let deliveries = self.slab.iter().map(|(_, session)| session.delivery_bytes());
        assert!(deliveries.sum::<u64>() == held.deliveries());
        let replays = self.slab.iter().map(|(_, session)| session.replays().map_or(0, Replays::noted_bytes));
        assert!(replays.sum::<u64>() == held.replays());
        let attached = self.slab.iter().filter(|(_, session)| session.connection.is_some());
        assert!(attached.count() == self.attached_count as usize);
        let wills = self.slab.iter().filter_map(|(_, session)| session.will.as_ref());
        assert!(wills.map(|will| will.bytes_held()).sum::<u64>() == self.will_bytes);
        let identifiers = self.slab.iter().map(|(_, session)| session.identifier_bytes());
        assert!(identifiers.sum::<u64>() == self.identifier_bytes);
        let accesses = self.slab.iter().map(|(_, session)| session.access_bytes());
        assert!(accesses.sum::<u64>() == self.access_bytes);
        self.slab.check();
        assert!(self.owners.iter().all(|(index, _)| self.slab.at(index).is_some()));
        let ended = self.slab.iter().filter(|(_, session)| session.has_ended);
        assert!(ended.count() == self.ended_count as usize);
        assert!(self.by_client.len() == self.len() as usize);
        self.by_client.check();
        for (id, session) in self.iter() {
            assert!(session.has_ended == (self.find(session.client_id()) != Some(id)));
        }
    }

    fn replace_will(&mut self, id: SessionId, will: Option<Box<Will>>) -> Option<Box<Will>> {
        let session = self.slab.get_mut(id.key())?;
        let bytes = |will: &Option<Box<Will>>| will.as_ref().map_or(0, |will| will.bytes_held());
        self.will_bytes += bytes(&will);
        let before = core::mem::replace(&mut session.will, will);
        assert!(self.will_bytes >= bytes(&before));
        self.will_bytes -= bytes(&before);
        before
    }
}

fn set_expiry(
    turn: &mut Turn<'_>,
    id: SessionId,
    interval_s: u32,
) -> Option<crate::base::timer_wheel::TimerId> {
    let deadline = interval_end(turn.now, interval_s)?;
    Some(turn.timers.insert(deadline, Timer::SessionExpiry(id)))
}
