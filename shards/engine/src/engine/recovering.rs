//! The part of a log that was read and has no place in the rooms yet.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use crate::base::ids::{MessageKey, SessionId};
use crate::base::time::Instant;
use crate::record::Numbers;
use crate::session::recovered::RecoveredDeliveries;
use crate::session::will::Will;

/// A delivery: the number of its session, and its place in the sequence of that.
pub(super) type Delivered = (u64, u64);

/// The origin of a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The log, with the position of the record.
    Log(u64),
    /// A slice of a checkpoint, with its `as_of`.
    Checkpoint(u64),
}

impl Default for Source {
    fn default() -> Self {
        Self::Log(0)
    }
}

/// A session whose log is read.
#[derive(Debug)]
pub(super) struct RecoveringSession {
    id: SessionId,
    /// Records before this position have had their effect on it.
    as_of: u64,
    /// When it lost its connection; `None` while it has one.
    detached_at: Option<Instant>,
    /// The number of its will; 0 for none.
    will: u64,
    left: RecoveredDeliveries,
}

impl RecoveringSession {
    pub(super) const fn id(&self) -> SessionId {
        self.id
    }

    /// The number of its will; 0 for none.
    pub(super) const fn will(&self) -> u64 {
        self.will
    }

    pub(super) const fn left_mut(&mut self) -> &mut RecoveredDeliveries {
        &mut self.left
    }

    /// It has a connection from now on, and this will.
    pub(super) fn attach(&mut self, will: u64) {
        (self.detached_at, self.will) = (None, will);
        self.left.attach();
    }

    pub(super) fn detach(&mut self, at: Instant) {
        self.detached_at = Some(at);
        self.left.detach();
    }

    /// When it lost its connection, and what it has to deliver or to complete.
    pub(super) fn into_left(self) -> (Option<Instant>, RecoveredDeliveries) {
        (self.detached_at, self.left)
    }
}

/// A message of which the last part was not read.
#[derive(Debug)]
pub(super) struct OpenMessage {
    number: u64,
    /// It is held.
    message: MessageKey,
    /// Its deliveries. They come to nothing without the last part: the message comes again, from its publisher or from another shard.
    deliveries: Vec<Delivered>,
}

impl OpenMessage {
    pub(super) const fn new(number: u64, message: MessageKey, deliveries: Vec<Delivered>) -> Self {
        Self { number, message, deliveries }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn message(&self) -> MessageKey {
        self.message
    }

    pub(super) fn add_deliveries(&mut self, deliveries: Vec<Delivered>) {
        self.deliveries.extend(deliveries);
    }

    pub(super) fn into_deliveries(self) -> Vec<Delivered> {
        self.deliveries
    }
}

#[derive(Debug, Default)]
pub(super) struct Recovering {
    sessions: BTreeMap<u64, RecoveringSession>,
    /// Messages that are owed to a group, by the delivery that they were, each with the key of the group. They are held.
    owed: BTreeMap<Delivered, (MessageKey, u64)>,
    /// Wills that were not published, each with its user.
    wills: BTreeMap<u64, (Box<str>, Box<Will>)>,
    open: Option<OpenMessage>,
    source: Source,
}

impl Recovering {
    /// The next record is from here.
    pub(super) fn set_source(&mut self, source: Source) {
        self.source = source;
    }

    pub(super) fn reads_checkpoint(&self) -> bool {
        matches!(self.source, Source::Checkpoint(_))
    }

    fn position(&self) -> u64 {
        match self.source {
            Source::Log(position) | Source::Checkpoint(position) => position,
        }
    }

    /// The session that a record names, if it is known and not newer than the record.
    pub(super) fn session_mut(&mut self, number: u64) -> Option<&mut RecoveringSession> {
        let position = self.position();
        self.sessions.get_mut(&number).filter(|session| session.as_of <= position)
    }

    /// The session that a record names, if it is known and not newer than the record.
    pub(super) fn id_of(&self, number: u64) -> Option<SessionId> {
        let session = self.sessions.get(&number).filter(|session| session.as_of <= self.position());
        session.map(RecoveringSession::id)
    }

    /// The session with this number, if it is known.
    pub(super) fn any_id_of(&self, number: u64) -> Option<SessionId> {
        self.sessions.get(&number).map(RecoveringSession::id)
    }

    /// The number of a session.
    pub(super) fn number_of(&self, id: SessionId) -> Option<u64> {
        self.sessions.iter().find(|(_, session)| session.id == id).map(|(number, _)| *number)
    }

    /// Whether a session is newer than the record that is read.
    pub(super) fn is_newer(&self, id: SessionId) -> bool {
        self.sessions.values().any(|session| session.id == id && session.as_of > self.position())
    }

    pub(super) fn insert_session(&mut self, number: NonZeroU64, id: SessionId) -> &mut RecoveringSession {
        let left = RecoveredDeliveries::new(number);
        let as_of = if let Source::Checkpoint(as_of) = self.source { as_of } else { 0 };
        let session = RecoveringSession { id, as_of, detached_at: None, will: 0, left };
        self.sessions.entry(number.get()).or_insert(session)
    }

    pub(super) fn remove_session(&mut self, number: u64) -> Option<RecoveringSession> {
        self.id_of(number)?;
        self.sessions.remove(&number)
    }

    /// Takes out all sessions, in the order of their numbers.
    pub(super) fn take_sessions(&mut self) -> impl Iterator<Item = RecoveringSession> + use<> {
        core::mem::take(&mut self.sessions).into_values()
    }

    /// These deliveries of a session go back to the groups by which they came.
    pub(super) fn owe(&mut self, number: u64, deliveries: Numbers<'_>) {
        let position = self.position();
        let session = self.sessions.get_mut(&number).filter(|session| session.as_of <= position);
        let Some(session) = session else { return };
        for delivery in deliveries.iter() {
            let left = session.left.take(delivery);
            let owed = left.and_then(|(message, group)| message.zip(group));
            self.owed.extend(owed.map(|owed| ((number, delivery), owed)));
        }
    }

    /// A message is owed to the group with this key, because the session of its delivery is in no log. Its hold is taken over. Returns the
    /// message whose hold is given back: a checkpoint had it already.
    pub(super) fn owe_to_group(
        &mut self,
        of: Delivered,
        message: MessageKey,
        key: u64,
    ) -> Option<MessageKey> {
        self.owed.insert(of, (message, key)).map(|(former, _)| former)
    }

    /// Takes out the messages that are owed to groups, each with the delivery that it was and the key of its group.
    pub(super) fn take_owed(&mut self) -> impl Iterator<Item = (Delivered, (MessageKey, u64))> + use<> {
        core::mem::take(&mut self.owed).into_iter()
    }

    /// A delivery has ended, as one of a session or as one that a group got back. Returns its message, which the caller holds then.
    pub(super) fn settle(&mut self, of: Delivered) -> Option<MessageKey> {
        let session = self.session_mut(of.0);
        let left = session.and_then(|session| session.left.take(of.1));
        left.and_then(|(message, _)| message).or_else(|| self.owed.remove(&of).map(|(message, _)| message))
    }

    pub(super) fn insert_will(&mut self, number: u64, user: Box<str>, will: Box<Will>) {
        self.wills.insert(number, (user, will));
    }

    pub(super) fn remove_will(&mut self, number: u64) -> Option<Box<Will>> {
        self.wills.remove(&number).map(|(_, will)| will)
    }

    /// Takes out all wills that are left, each with its user, oldest first.
    pub(super) fn take_wills(&mut self) -> impl Iterator<Item = (Box<str>, Box<Will>)> + use<> {
        core::mem::take(&mut self.wills).into_values()
    }

    pub(super) fn open_message(&mut self, open: OpenMessage) {
        assert!(self.open.is_none());
        self.open = Some(open);
    }

    pub(super) fn take_open(&mut self) -> Option<OpenMessage> {
        self.open.take()
    }
}

/// A will that is due at the end of recovery.
#[derive(Debug)]
pub(super) enum DueWill {
    OfSession(SessionId),
    /// Of a session that has ended, with its user.
    Alone(Box<str>, Box<Will>),
}

/// The wills that are due at the end of recovery, in the order in which they are published.
#[derive(Debug, Default)]
pub(super) struct Due(Vec<DueWill>);

impl Due {
    /// The will of this session is due.
    pub(super) fn push_session(&mut self, id: SessionId) {
        self.0.push(DueWill::OfSession(id));
    }

    /// The will of a session is due that has ended.
    pub(super) fn push_will(&mut self, user: Box<str>, will: Box<Will>) {
        self.0.push(DueWill::Alone(user, will));
    }

    pub(super) fn into_wills(self) -> Vec<DueWill> {
        self.0
    }
}
