//! A change of the rules: all sessions are looked at until the sweep has decided their subscriptions anew.
//!
//! Invariants worth naming:
//! - From the event on, every question goes to the new rules. The sweep changes no answer: it finds the sessions whose messages need
//!   no look any more.
//! - A subscription that lost its topics stays, and so does its queue: both are looked at as long as the rules say so.
//! - A sweep visits a bounded number of sessions a tick, and a session with many subscriptions stays checked.

use rules::Coverage;
use wire::TopicFilter;

use super::{Engine, Rooms};
use crate::action::Actions;
use crate::base::ids::SessionId;
use crate::base::time::Instant;
use crate::rules_in_force::{RulesInForce, SharedRules};
use crate::turn::Turn;

/// Slots of sessions that a tick visits.
const SLOTS_PER_TICK: u32 = 64;
/// Subscriptions of a session that the sweep decides; one with more of them stays checked.
const SUBSCRIPTIONS_MAX: u32 = 64;
/// Subscriptions that are decided for one unit of work.
const SUBSCRIPTIONS_PER_WORK: u32 = 4;

impl Engine {
    /// Whether every session was visited since the rules changed. To change them again before costs the rest of the visits at once.
    #[must_use]
    pub fn is_swept(&self) -> bool {
        self.rooms.sweep_at.is_none()
    }

    /// Puts other rules into force. A sweep that is under way has to end first, in this step: sets of rules before those in force
    /// would mean nothing any more.
    pub(super) fn change_rules(&mut self, now: Instant, rules: Option<&SharedRules>, actions: &mut Actions) {
        let (rooms, mut turn) = self.turn(now, actions);
        while rooms.sweep_at.is_some() {
            rooms.go_on_with_sweep(&mut turn);
        }
        let before = self.rules.take();
        self.rules_generation += 1;
        let generation = self.rules_generation;
        self.rules =
            rules.map(|rules| RulesInForce::after(before.as_deref(), rules.clone(), generation).into());
    }

    /// Lets go of rules that no session needs any more.
    pub(super) fn end_sweep(&mut self) {
        if self.is_swept()
            && let Some(rules) = &mut self.rules
        {
            rules.forget_previous();
        }
    }
}

impl Rooms {
    /// The rules have changed.
    pub(super) fn begin_sweep(&mut self) {
        assert!(self.sweep_at.is_none());
        self.sweep_at = Some(0);
    }

    /// Visits some more sessions.
    pub(super) fn go_on_with_sweep(&mut self, turn: &mut Turn<'_>) {
        let Some(from) = self.sweep_at else { return };
        let end = self.delivery.sessions.slot_count().min(from.saturating_add(SLOTS_PER_TICK));
        for at in from..end {
            turn.spend(1);
            if let Some(id) = self.delivery.sessions.id_at(at) {
                self.sweep_session(turn, id);
            }
        }
        self.sweep_at = (end < self.delivery.sessions.slot_count()).then_some(end);
    }

    fn sweep_session(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        let Self { topics, delivery, .. } = self;
        let Some(session) = delivery.sessions.get_mut(id) else { return };
        session.renew_standing(turn);
        let list = session.subscriptions();
        let mut is_checked = list.count() > SUBSCRIPTIONS_MAX;
        if !is_checked {
            turn.spend(list.count() / SUBSCRIPTIONS_PER_WORK);
            topics.for_each(list, |share_name, filter, _| {
                let filter =
                    TopicFilter::parse_unshared(filter).expect("it was parsed when it was subscribed to");
                is_checked |= session.coverage(turn, share_name, &filter) != Coverage::Covered;
            });
        }
        // Messages of subscriptions that are gone may be queued or in flight.
        is_checked |= session.queued_count() > 0 || session.inflight_count() > 0;
        session.set_checked(is_checked && turn.rules().is_some());
    }
}
