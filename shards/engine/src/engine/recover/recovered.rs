//! The end of recovery: sessions go on offline as the log left them, wills that are due are published, and messages that a group got
//! back find other members. All of it is recorded like any other event, so a crash during recovery changes nothing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::num::NonZeroU64;

use rules::Names;

use super::super::backlog::Unasked;
use super::super::recovering::{Recovering, RecoveringSession};
use super::super::{Engine, Rooms};
use crate::action::Actions;
use crate::base::ids::SessionId;
use crate::base::time::Instant;
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
        if let Some(recovering) = rooms.recovering.take() {
            rooms.go_on_after(&mut turn, *recovering);
        }
        rooms.end_step(&mut turn);
        self.step_work = turn.work();
    }
}

impl Rooms {
    fn go_on_after(&mut self, turn: &mut Turn<'_>, mut recovering: Recovering) {
        if let Some(open) = recovering.take_open() {
            // Its publisher has no acknowledgement and sends it again.
            self.delivery.messages.release(open.message());
            for (session, delivery) in open.into_unsent() {
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
            if !may_publish(turn, UserName::new(&user), &will) {
                turn.counters.wills_forbidden += 1;
                will.record_end(turn);
                continue;
            }
            let user = self.delivery.sessions.users_mut().hold_named(UserName::new(&user));
            let unasked = Unasked::will_of(user, will.number());
            self.publish_unasked(turn, &will.message_at(turn.now), unasked);
            self.delivery.sessions.users_mut().release(user);
            self.settle(turn);
        }
        for (id, outcome) in outcomes {
            match outcome {
                Resumed::Offline => continue,
                Resumed::WithWillDue => self.publish_will(turn, id),
                Resumed::Ended => self.end_session(turn, id),
            }
            self.settle(turn);
        }
        if turn.rules().is_some() {
            // Rules that were there before the log have begun a sweep, over no session yet.
            self.sweep_at = Some(0);
        }
    }

    /// A session goes on offline.
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
