//! The rules that decide, and the standing of a client before them.
//!
//! Invariant: a set of roles belongs to a generation of the rules. A client whose set is of an earlier one is decided by the rules in
//! force all the same: its set is found anew for each question, until the sweep has come to it.

#[expect(
    clippy::disallowed_types,
    reason = "rules are read-only and as large as the operator's files, so shards share them"
)]
use alloc::sync::Arc;

use rules::{Coverage, NameFault, Names, Rules, SetFault};
use wire::TopicFilter;

/// The rules of a process, which its shards share.
#[expect(
    clippy::disallowed_types,
    reason = "rules are read-only and as large as the operator's files, so shards share them"
)]
pub type SharedRules = Arc<Rules>;

/// The rules that decide from now on. **Lives on:** every shard, beside its limits.
#[derive(Debug)]
pub(crate) struct RulesInForce {
    rules: SharedRules,
    generation: u32,
    /// The rules before, while sets of them may be left.
    previous: Option<SharedRules>,
}

/// The set of roles of a client, and the rules that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    set: u32,
    generation: u32,
}

impl Standing {
    /// That of a client that was let in without rules: its set is found for each question, until a sweep has come to it.
    pub(crate) const UNKNOWN: Self = Self { set: 0, generation: 0 };
}

/// The reason why rules do not let a client in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AccessFault {
    Roles(SetFault),
    Name(NameFault),
}

impl RulesInForce {
    /// Rules that follow others, or none. No rules before had this generation.
    pub(crate) fn after(before: Option<&Self>, rules: SharedRules, generation: u32) -> Self {
        assert!(generation > 0 && before.is_none_or(|before| before.generation < generation));
        Self { rules, generation, previous: before.map(|before| before.rules.clone()) }
    }

    /// No set of the rules before is left.
    pub(crate) fn forget_previous(&mut self) {
        self.previous = None;
    }

    /// The standing of a client that is let in with these roles of a token.
    pub(crate) fn admit(&self, names: Names<'_>, roles: &[&str]) -> Result<Standing, AccessFault> {
        let set = self.rules.set_of(Some(names.user), roles).map_err(AccessFault::Roles)?;
        self.rules.check_names(set, names).map_err(AccessFault::Name)?;
        Ok(Standing { set, generation: self.generation })
    }

    /// Whether a standing is one before these rules.
    #[inline]
    pub(crate) fn is_current(&self, standing: Standing) -> bool {
        standing.generation == self.generation
    }

    /// The standing by which a client is decided; `None` if it may do nothing. A client that was let in without rules has none of
    /// its own.
    pub(crate) fn current(&self, standing: Option<Standing>, user: &str) -> Option<Standing> {
        let set = match (standing, &self.previous) {
            (Some(standing), _) if self.is_current(standing) => return Some(standing),
            (Some(standing), Some(previous)) if standing.generation == self.generation.wrapping_sub(1) => {
                self.rules.set_after(previous, standing.set, Some(user))
            }
            _ => self.rules.set_of(Some(user), &[]),
        };
        Some(Standing { set: set.ok()?, generation: self.generation })
    }

    /// Whether a topic may be published to.
    pub(crate) fn may_publish(&self, standing: Standing, names: Names<'_>, topic: &str) -> bool {
        assert!(self.is_current(standing));
        self.rules.may_publish(standing.set, names, topic)
    }

    /// The roles of a client's token.
    pub(crate) fn claimed_by(&self, standing: Standing) -> impl Iterator<Item = &str> {
        assert!(self.is_current(standing));
        self.rules.claimed_by(standing.set)
    }

    /// The standing of the source of a retained message, with these roles of a token; `None` if it may do nothing.
    pub(crate) fn of_source(&self, user: &str, roles: &[&str]) -> Option<Standing> {
        let set = self.rules.set_of(Some(user), roles).ok()?;
        Some(Standing { set, generation: self.generation })
    }

    /// Whether messages of a topic may be read.
    pub(crate) fn may_read(&self, standing: Standing, names: Names<'_>, topic: &str) -> bool {
        assert!(self.is_current(standing));
        self.rules.may_read(standing.set, names, topic)
    }

    /// The relation of a filter to the topics that may be read. One whose group may not be joined is disjoint.
    pub(crate) fn coverage(
        &self,
        standing: Standing,
        names: Names<'_>,
        (share_name, filter): (Option<&str>, &TopicFilter<'_>),
    ) -> Coverage {
        assert!(self.is_current(standing));
        if share_name.is_some_and(|name| !self.rules.may_join(standing.set, names, name)) {
            return Coverage::Disjoint;
        }
        self.rules.coverage(standing.set, names, filter)
    }
}
