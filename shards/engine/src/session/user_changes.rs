//! Users of lists that have changed, until every session was looked at.
//!
//! Bound: the names are those of the operator's files, and they are forgotten with the last visit.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::base::heap;
use crate::base::time::Instant;

/// A change of a user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum UserChange {
    /// It has another password: its clients connect again.
    Renewed,
    /// It is in no list any more: its sessions end.
    Gone,
}

/// **Lives on:** every shard. **Sees:** the names that its host tells.
#[derive(Debug, Default)]
pub(crate) struct UserChanges {
    by_name: BTreeMap<Box<str>, UserChange>,
    name_bytes: u64,
    /// The slot of the session that the visits come to next, and when the last change came.
    at: Option<(u32, Instant)>,
}

impl UserChanges {
    /// Takes in changes of `now`. All sessions are visited, once more if they were being visited.
    pub(crate) fn add(&mut self, now: Instant, change: UserChange, names: &[Box<str>]) {
        for name in names {
            if let Some(known) = self.by_name.get_mut(name) {
                *known = change.max(*known);
            } else {
                self.name_bytes += heap::block(name.len());
                self.by_name.insert(name.clone(), change);
            }
        }
        if !self.by_name.is_empty() {
            self.at = Some((0, now));
        }
    }

    /// Whether every session was visited.
    pub(crate) fn is_empty(&self) -> bool {
        self.at.is_none()
    }

    /// The slot that is visited next, and when the last change came.
    pub(crate) fn at(&self) -> Option<(u32, Instant)> {
        self.at
    }

    /// The slots before `slot` were visited; `None`: all were.
    pub(crate) fn go_on_at(&mut self, slot: Option<u32>) {
        self.at = self.at.and_then(|(_, since)| Some((slot?, since)));
        if self.at.is_none() {
            *self = Self::default();
        }
    }

    /// The change of a user.
    pub(crate) fn of(&self, user: &str) -> Option<UserChange> {
        self.by_name.get(user).copied()
    }

    /// Bytes held, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.by_name.len() as u64 * heap::block(size_of::<(Box<str>, UserChange)>()) + self.name_bytes
    }

    /// Recomputes the count, for an audit.
    ///
    /// # Panics
    /// If it is wrong.
    pub(crate) fn check(&self) {
        assert!(self.by_name.keys().map(|name| heap::block(name.len())).sum::<u64>() == self.name_bytes);
        assert!(self.by_name.is_empty() == self.at.is_none());
    }
}
