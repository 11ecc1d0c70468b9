//! The judgement of retained messages by the rules of their source: a message that its source may not publish any more is read by
//! nobody. It stays, because the rules may come to allow it again. A message of nobody is read.

use alloc::vec::Vec;
use core::cell::Cell;

use rules::Names;

use super::store::RetainedEntry;
use crate::rules_in_force::{RulesInForce, Standing};
use crate::session::user::{UserId, Users};
use crate::turn::Turn;

/// The judge of one page.
#[derive(Debug)]
pub(crate) struct SourceJudge<'a> {
    rules: Option<&'a RulesInForce>,
    users: &'a Users,
    /// The standing of the source that was judged last: messages of one source often follow each other.
    last: Cell<Option<(UserId, Option<Standing>)>>,
    unread_count: Cell<u64>,
}

impl<'a> SourceJudge<'a> {
    pub(crate) fn new(turn: &Turn<'a>, users: &'a Users) -> Self {
        Self { rules: turn.rules(), users, last: Cell::new(None), unread_count: Cell::new(0) }
    }

    /// Whether a message may be read, as far as its source goes.
    pub(crate) fn allows(&self, topic: &str, entry: &RetainedEntry) -> bool {
        let (Some(in_force), Some(id)) = (self.rules, entry.user()) else { return true };
        let source = self.users.name_of(Some(id));
        let known = self.last.get().filter(|(last, _)| *last == id);
        let (user, client_id, roles) = source.source_parts();
        let find = || (id, in_force.of_source(user, &roles.collect::<Vec<_>>()));
        let (_, standing) = known.unwrap_or_else(find);
        self.last.set(Some((id, standing)));
        let names = Names { client_id, user };
        let is_allowed = standing.is_some_and(|standing| in_force.may_publish(standing, names, topic));
        self.unread_count.set(self.unread_count.get() + u64::from(!is_allowed));
        is_allowed
    }

    /// Messages that it did not allow.
    pub(crate) fn unread_count(&self) -> u64 {
        self.unread_count.get()
    }
}
