//! The part of the rules that concerns one session: its user, its standing, and the answers about topics.
//!
//! Invariants worth naming:
//! - A session is **checked** unless every message of its subscriptions may be read. After a change of the rules all sessions are,
//!   until the sweep has come to its end. So from that moment nothing is delivered by the rules before.
//! - A publish is allowed without a look at the rules only if its topic has the serial of the one that the rules in force allowed
//!   last. A serial is never given to a second topic.

use alloc::boxed::Box;
use alloc::string::String;

use rules::{Coverage, Names};
use wire::TopicFilter;

use super::Session;
use crate::base::heap;
use crate::message::user_name::UserName;
use crate::rules_in_force::{RulesInForce, Standing};
use crate::turn::Turn;

/// The user of a session and its standing before the rules. Without rules a session of nobody has none.
#[derive(Debug)]
pub(crate) struct Access {
    /// Empty for a client without one.
    user: Box<str>,
    standing: Standing,
    /// A list of users recognised it.
    is_listed: bool,
    /// The serial of the topic of the last publish that was allowed; 0: none.
    allowed_serial: u64,
}

impl Access {
    pub(crate) fn new(user: &str, standing: Standing, is_listed: bool) -> Self {
        Self { user: user.into(), standing, is_listed, allowed_serial: 0 }
    }

    /// That of a user whose set of roles is found when rules ask for it.
    pub(crate) fn of_user(user: Option<&str>, is_listed: bool) -> Option<Box<Self>> {
        user.map(|user| Box::new(Self::new(user, Standing::UNKNOWN, is_listed)))
    }

    pub(super) fn bytes_held(&self) -> u64 {
        heap::block(size_of::<Self>()) + heap::block(self.user.len())
    }
}

impl Session {
    /// Whether a message for it has to be looked at: by the rules, or because it has ended.
    #[inline]
    pub(crate) fn is_watched(&self, turn: &Turn<'_>) -> bool {
        self.has_ended | self.is_checked | turn.checks_all()
    }

    /// Whether messages of a topic may be delivered to it.
    pub(crate) fn may_read(&self, turn: &Turn<'_>, topic: &str) -> bool {
        let Some(in_force) = turn.rules() else { return true };
        self.standing(in_force).is_some_and(|standing| in_force.may_read(standing, self.names(), topic))
    }

    /// Whether it may publish to a topic, which the match cache knows by `serial`; 0 if it does not.
    #[inline]
    pub(crate) fn may_publish(&mut self, turn: &Turn<'_>, serial: u64, topic: &str) -> bool {
        let Some(in_force) = turn.rules() else { return true };
        if let Some(access) = &self.access
            && serial != 0
            && access.allowed_serial == serial
            && in_force.is_current(access.standing)
        {
            return true;
        }
        self.is_publish_allowed(in_force, serial, topic)
    }

    #[inline(never)]
    fn is_publish_allowed(&mut self, in_force: &RulesInForce, serial: u64, topic: &str) -> bool {
        let Some(standing) = self.standing(in_force) else { return false };
        let is_allowed = in_force.may_publish(standing, self.names(), topic);
        if is_allowed
            && let Some(access) = &mut self.access
            && access.standing == standing
        {
            access.allowed_serial = serial;
        }
        is_allowed
    }

    /// The relation of a filter to what it may read.
    pub(crate) fn coverage(
        &self,
        turn: &Turn<'_>,
        share_name: Option<&str>,
        filter: &TopicFilter<'_>,
    ) -> Coverage {
        let Some(in_force) = turn.rules() else { return Coverage::Covered };
        let Some(standing) = self.standing(in_force) else { return Coverage::Disjoint };
        in_force.coverage(standing, self.names(), (share_name, filter))
    }

    /// Its user, if a list of users recognised it.
    pub(crate) fn listed_user(&self) -> Option<&str> {
        self.access.as_ref().filter(|access| access.is_listed).map(|access| &*access.user)
    }

    /// Whether its messages are looked at from now on.
    pub(crate) fn set_checked(&mut self, is_checked: bool) {
        self.is_checked = is_checked;
    }

    /// The source of the retained messages that it publishes now; `None` without rules, or for a client without a user.
    pub(crate) fn source(&self, turn: &Turn<'_>) -> Option<String> {
        let (in_force, names) = (turn.rules()?, self.names());
        // A name that could be taken for several parts is of nobody that rules know.
        let is_plain =
            !names.user.is_empty() && !names.user.contains('\0') && !names.client_id.contains('\0');
        let standing = self.standing(in_force).filter(|_| is_plain)?;
        Some(UserName::source(names.user, names.client_id, in_force.claimed_by(standing)))
    }

    /// Its standing becomes one before the rules in force.
    pub(crate) fn renew_standing(&mut self, turn: &Turn<'_>) {
        let Some(in_force) = turn.rules() else { return };
        let standing = self.standing(in_force);
        if let (Some(access), Some(standing)) = (&mut self.access, standing) {
            access.standing = standing;
            access.allowed_serial = 0;
        }
    }

    /// It serves a client with this access. Returns by how much that one's bytes differ from those before.
    pub(super) fn replace_access(&mut self, access: Option<Box<Access>>) -> (u64, u64) {
        let bytes = |access: &Option<Box<Access>>| access.as_ref().map_or(0, |access| access.bytes_held());
        let same = match (&self.access, &access) {
            (Some(before), Some(access)) => before.user == access.user && before.standing == access.standing,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        // Its subscriptions were decided for another one.
        self.is_checked |= !same && self.subscriptions.count() > 0;
        let sizes = (bytes(&self.access), bytes(&access));
        self.access = access;
        sizes
    }

    pub(super) fn access_bytes(&self) -> u64 {
        self.access.as_ref().map_or(0, |access| access.bytes_held())
    }

    fn standing(&self, in_force: &RulesInForce) -> Option<Standing> {
        let standing = self.access.as_ref().map(|access| access.standing);
        in_force.current(standing, self.names().user)
    }

    fn names(&self) -> Names<'_> {
        let user = self.access.as_ref().map_or("", |access| &*access.user);
        Names { client_id: &self.client_id, user }
    }
}
