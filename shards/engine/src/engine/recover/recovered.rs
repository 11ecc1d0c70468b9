//! The end of recovery: sessions go on offline as the log left them, and open transfers are sent again. Once the interest of all shards
//! is known, wills that are due are published, and messages that a group got back find other members. All of it is recorded like any other event, so a crash during recovery changes nothing.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::num::NonZeroU64;

use rules::Names;

use super::super::backlog::Unasked;
use super::super::recovering::{Due, DueWill, Recovering, RecoveringSession};
use super::super::{Engine, Rooms};
use crate::action::Actions;
use crate::base::ids::SessionId;
use crate::base::time::Instant;
use crate::mesh::message::ShardMessage;
use crate::message::user_name::UserName;
use crate::record::first_number;
use crate::session::Session;
use crate::session::will::Will;
use crate::topic::groups::GroupTag;
use crate::turn::Turn;

/// The way in which a session goes on.
#[derive(Clone, Copy, Debug)]
enum Resumed {
    Offline,
    WithWillDue,
    /// It ended with its connection, that is now.
    Ended,
}

impl Engine {
    /// The log was read to its end: what it left goes on at `now`, which is the broker's time and so counts the time in which it did
    /// not run. To be called once, after [`Engine::recover`] and before anything else, and also if the log was empty.
    ///
    /// # Panics
    /// If the engine's own tables contradict each other.
    pub fn recovered(&mut self, now: Instant, actions: &mut Actions) {
        let start = self.limits.journal_start.map_or(0, first_number);
        let (rooms, mut turn) = self.turn(now, actions);
        rooms.delivery.set_publish_sequence(start);
        let recovering = rooms.recovering.take().unwrap_or_default();
        rooms.due = Some(Box::new(rooms.go_on_after(&mut turn, *recovering)));
        rooms.go_on_with_transfers(&mut turn);
        rooms.publish_due(&mut turn);
        rooms.end_step(&mut turn);
        self.step_work = turn.work();
    }
}

impl Rooms {
    fn go_on_after(&mut self, turn: &mut Turn<'_>, mut recovering: Recovering) -> Due {
        if let Some(open) = recovering.take_open() {
            // Its publisher has no acknowledgement and sends it again.
            self.delivery.messages.release(open.message());
            for (session, delivery) in open.into_deliveries() {
                self.settle_recovered(&mut recovering, (session, delivery));
                if let (Some(recorder), Some(number)) = (turn.recorder(), NonZeroU64::new(session)) {
                    recorder.settled(number, delivery);
                }
            }
        }
        for ((session, delivery), (message, key)) in recovering.take_owed() {
            if let Some(number) = NonZeroU64::new(session) {
                self.shared.push_reassignment(message, key, (number, delivery));
            }
        }
        let mut due = Due::default();
        let mut outcomes: Vec<(SessionId, Resumed)> = Vec::new();
        for session in recovering.take_sessions() {
            let id = session.id();
            if let Some(will) = recovering.remove_will(session.will()) {
                self.delivery.sessions.recover_will(id, will);
            }
            outcomes.push((id, self.resume_session(turn, session)));
        }
        // A will may go to any session, so all of them go on before one is published. Those that no session has are of earlier
        // connections than those that one has.
        for (user, will) in recovering.take_wills() {
            due.push_will(user, will);
        }
        for (id, outcome) in outcomes {
            match outcome {
                Resumed::Offline => {}
                Resumed::WithWillDue => due.push_session(id),
                Resumed::Ended => self.end_recovered(turn, id, &mut due),
            }
        }
        if turn.rules().is_some() {
            // Rules that were there before the log have begun a sweep, over no session yet.
            self.sweep_at = Some(0);
        }
        due
    }

    /// A session has ended with its connection. Its will is published with those that are due.
    fn end_recovered(&mut self, turn: &mut Turn<'_>, id: SessionId, due: &mut Due) {
        if let Some(will) = self.delivery.sessions.take_will(id) {
            if self.may_publish_will(turn, id, &will) {
                let user = self.delivery.sessions.hold_source(turn, id);
                let users = self.delivery.sessions.users_mut();
                due.push_will(users.name_of(user).name().into(), will);
                users.release(user);
            } else {
                will.record_end(turn);
            }
        }
        self.end_session(turn, id);
        self.settle(turn);
    }

    /// Sends open transfers again, and tells the other shards that everything is announced that the log had.
    fn go_on_with_transfers(&mut self, turn: &mut Turn<'_>) {
        let Self { delivery, mesh, .. } = self;
        mesh.transfers_mut().end_recovery(|message| delivery.messages.bytes_of(message));
        self.pressure.set_far_ahead(self.mesh.transfers().is_full());
        // Each update comes to its home as a transfer with its own number, so others may wait for one that this shard took in before.
        for (source, sequence) in self.mesh.transfers().taken() {
            self.retained.watermarks_mut().recover_applied(source, sequence);
        }
        self.send_recovered(turn);
        if self.mesh.placement().is_meshed() {
            self.announce_changes();
            self.mesh.announce(&ShardMessage::Recovered);
            // A retained message may have been on its way to its home when the process ended.
            let announced = self.mesh.announced();
            let sessions = &mut self.delivery.sessions;
            for slot in 0..sessions.slot_count() {
                let session = sessions.id_at(slot).and_then(|id| sessions.get_mut(id));
                if let Some(replays) = session.and_then(Session::replays_mut) {
                    replays.await_announced(announced);
                }
            }
        }
    }

    /// Publishes the wills that are due at the end of recovery, once the interest of all shards is known.
    pub(in super::super) fn publish_due(&mut self, turn: &mut Turn<'_>) {
        if !self.mesh.is_whole() {
            return;
        }
        let Some(due) = self.due.take() else { return };
        for will in due.into_wills() {
            match will {
                DueWill::OfSession(id) if self.delivery.sessions.get(id).is_some_and(Session::has_will) => {
                    self.publish_will(turn, id);
                }
                DueWill::OfSession(_) => {}
                DueWill::Alone(user, will) if !may_publish(turn, UserName::new(&user), &will) => {
                    turn.counters.wills_forbidden += 1;
                    will.record_end(turn);
                }
                DueWill::Alone(user, will) => {
                    let user = self.delivery.sessions.users_mut().hold_named(UserName::new(&user));
                    let unasked = Unasked::will_of(user, will.number());
                    self.publish_unasked(turn, &will.message_at(turn.now), unasked);
                    self.delivery.sessions.users_mut().release(user);
                }
            }
            self.settle(turn);
        }
    }

    /// A session goes on offline, unless it ended with its connection, that is now.
    fn resume_session(&mut self, turn: &mut Turn<'_>, session: RecoveringSession) -> Resumed {
        let id = session.id();
        let (detached_at, left) = session.into_left();
        let keys: BTreeSet<u64> = left.groups().collect();
        let tags: BTreeMap<u64, GroupTag> =
            keys.into_iter().filter_map(|key| Some((key, self.tag_of_member(id, key)?))).collect();
        let Self { delivery, .. } = self;
        let own = delivery.sessions.of_connection(id);
        own.recover_deliveries(turn, &mut delivery.messages, left, |key| tags.get(&key).copied());
        own.set_checked(turn.rules().is_some());
        if !own.is_persistent() {
            return Resumed::Ended;
        }
        let is_will_due = own.resume_offline(turn, id, detached_at.unwrap_or(turn.now));
        if detached_at.is_none() {
            self.record_detached(turn, id, turn.now);
        }
        if is_will_due && self.delivery.sessions.get(id).is_some_and(Session::has_will) {
            return Resumed::WithWillDue;
        }
        Resumed::Offline
    }

    /// The group with this key, if a session is a member of it.
    fn tag_of_member(&self, id: SessionId, key: u64) -> Option<GroupTag> {
        let group = self.topics.group_by_key(key)?;
        let mut members = self.topics.group_members(group).iter();
        members.any(|member| member.session() == id.index()).then(|| GroupTag::of(group))
    }
}

/// Whether the rules let a user publish a will whose session is gone.
fn may_publish(turn: &Turn<'_>, source: UserName<'_>, will: &Will) -> bool {
    let Some(in_force) = turn.rules() else { return true };
    let (user, client_id, roles) = source.source_parts();
    let standing = in_force.of_source(user, &roles.collect::<Vec<_>>());
    let topic = will.message_at(turn.now).topic;
    standing.is_some_and(|standing| in_force.may_publish(standing, Names { client_id, user }, topic))
}
