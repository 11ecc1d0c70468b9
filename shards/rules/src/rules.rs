//! Rules that are complete: sets of roles, and the decisions that each of them makes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use wire::TopicFilter;

use crate::level::{Level, Names};
use crate::sets::{Set, SetFault, Sets};
use crate::trie::{Meeting, Met, NONE, Trie, kinds};

/// The answer where no rule says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is refused.
    Deny,
    /// It is allowed.
    Allow,
}

/// The meaning of a rule for the topics that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They may be published to.
    Publish = 0,
    /// They may be read.
    Subscribe = 1,
    /// Neither, whatever else says so.
    Deny = 2,
}

impl Kind {
    pub(crate) fn bit(self) -> u8 {
        match self {
            Self::Publish => kinds::PUBLISH,
            Self::Subscribe => kinds::SUBSCRIBE,
            Self::Deny => kinds::DENY,
        }
    }
}

/// The place where a rule is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The caller's number of the file.
    pub file: u32,
    /// The line, from 1; 0 if it is not known.
    pub line: u32,
}

/// The relation of a SUBSCRIBE's filter to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Every topic that it matches may be read: by one grant, or by default, and no deny meets it.
    Covered,
    /// Some may be read perhaps, so each message is checked.
    Partial,
    /// None may be read.
    Disjoint,
}

/// A name that cannot be put into the rules of a client, which therefore must not be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// The client identifier has `/`, `+` or `#`, and a rule has `%c`.
    ClientId,
    /// The user has `/`, `+` or `#` and a rule has `%u`, or there is no user and a deny has `%u`.
    User,
}

/// One rule, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleView<'a> {
    /// Its meaning.
    pub kind: Kind,
    /// Its filter as it is written.
    pub filter: &'a str,
    /// The role that has it.
    pub role: &'a str,
    /// Where it is written.
    pub origin: Origin,
}

/// An answer with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it is allowed, at least for some topics of a filter.
    pub coverage: Coverage,
    /// The rule that decided: a deny before a grant; `None` where the default did.
    pub rule: Option<RuleView<'a>>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) kind: Kind,
    pub(crate) filter: Box<str>,
    pub(crate) role: u32,
    pub(crate) origin: Origin,
}

#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: Box<str>,
    pub(crate) trie: Trie,
    /// The groups that it lets its clients join; `None`: it does not speak of groups.
    pub(crate) shares: Option<Box<[Level]>>,
    pub(crate) uses: Uses,
}

/// Where the rules of a role have a placeholder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    #[default]
    Nowhere,
    Grant,
    Deny,
}

/// Where the rules of a role have which placeholder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    pub(crate) client_id: Use,
    pub(crate) user: Use,
}

/// The roles of every client.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// The roles that claims may name.
    pub(crate) named: BTreeMap<Box<str>, u32>,
    pub(crate) users: BTreeMap<Box<str>, Vec<u32>>,
    pub(crate) nobody: Vec<u32>,
    pub(crate) every: Vec<u32>,
}

/// Everything that is allowed. **Lives on:** all shards, shared and read-only but for new sets.
#[derive(Debug)]
pub struct Rules {
    default: Access,
    roles: Box<[Role]>,
    written: Box<[Rule]>,
    holders: Holders,
    sets: Sets,
}

impl Rules {
    pub(crate) fn new(default: Access, roles: Box<[Role]>, written: Box<[Rule]>, holders: Holders) -> Self {
        let sets = Sets::for_users(holders.users.len());
        Self { default, roles, written, holders, sets }
    }

    /// Whether there is no rule and no group bound: the default decides everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.roles.iter().all(|role| role.shares.is_none())
    }

    /// The number of the set that a client holds: the roles of its user, those of everybody, and `claimed` ones, such as a token's.
    /// Names of roles that do not exist count for nothing. `None` is a client without a user.
    ///
    /// # Errors
    /// If these are too many roles, or there are too many sets.
    pub fn set_of(&self, user: Option<&str>, claimed: &[&str]) -> Result<u32, SetFault> {
        let numbers = claimed.iter().filter_map(|&name| self.holders.named.get(name).copied());
        let claimed = sorted(numbers.collect());
        let of_user = match user.filter(|user| !user.is_empty()) {
            Some(user) => self.holders.users.get(user),
            None => Some(&self.holders.nobody),
        };
        let own = sorted(self.holders.every.iter().chain(of_user.into_iter().flatten()).copied().collect());
        self.sets.find_or_add(&own, &claimed)
    }

    /// The number of the set that a client holds now, if it held `number` by the rules `old`: claimed roles stay claimed.
    ///
    /// # Errors
    /// As [`Self::set_of`].
    ///
    /// # Panics
    /// If `number` is not one of `old`.
    pub fn set_after(&self, old: &Self, number: u32, user: Option<&str>) -> Result<u32, SetFault> {
        let claimed: Vec<&str> = old.claimed_by(number).collect();
        self.set_of(user, &claimed)
    }

    /// The names of the claimed roles of a set, such as a token's.
    ///
    /// # Panics
    /// If there is no such set.
    pub fn claimed_by(&self, number: u32) -> impl Iterator<Item = &str> {
        let Set { claimed, .. } = self.sets.get(number);
        claimed.iter().map(|&role| &*self.roles[role as usize].name)
    }

    /// Whether these names can be put into the rules of a set.
    ///
    /// # Errors
    /// If a deny could miss this client, or a wildcard in its name could act.
    pub fn check_names(&self, set: u32, names: Names<'_>) -> Result<(), NameFault> {
        let acts = |used: Use, name: &str| match used {
            Use::Nowhere => false,
            Use::Grant => name.contains(['/', '+', '#']),
            Use::Deny => name.is_empty() || name.contains(['/', '+', '#']),
        };
        for Role { uses, .. } in self.roles_of(set) {
            if acts(uses.client_id, names.client_id) {
                return Err(NameFault::ClientId);
            }
            if acts(uses.user, names.user) {
                return Err(NameFault::User);
            }
        }
        Ok(())
    }

    /// Whether a topic may be published to.
    #[must_use]
    pub fn may_publish(&self, set: u32, names: Names<'_>, topic: &str) -> bool {
        self.met(set, names, topic, Kind::Publish).0
    }

    /// Whether messages of a topic may be read.
    #[must_use]
    pub fn may_read(&self, set: u32, names: Names<'_>, topic: &str) -> bool {
        self.met(set, names, topic, Kind::Subscribe).0
    }

    /// Whether the group of a shared subscription may be joined, whatever its filter.
    #[must_use]
    pub fn may_join(&self, set: u32, names: Names<'_>, share_name: &str) -> bool {
        let mut is_bounded = false;
        for shares in self.roles_of(set).filter_map(|role| role.shares.as_ref()) {
            if shares.iter().any(|share| share.is(names, share_name)) {
                return true;
            }
            is_bounded = true;
        }
        !is_bounded
    }

    /// The relation of a subscription's filter to the rules. A share name is not looked at.
    #[must_use]
    pub fn coverage(&self, set: u32, names: Names<'_>, filter: &TopicFilter<'_>) -> Coverage {
        self.meeting(set, names, filter).0
    }

    /// As [`Self::may_publish`], with the reason.
    #[must_use]
    pub fn explain_publish(&self, set: u32, names: Names<'_>, topic: &str) -> Decision<'_> {
        let (is_allowed, met) = self.met(set, names, topic, Kind::Publish);
        let coverage = if is_allowed { Coverage::Covered } else { Coverage::Disjoint };
        let rule = if met.deny == NONE { met.grant } else { met.deny };
        Decision { coverage, rule: self.view(rule) }
    }

    /// As [`Self::coverage`], with the reason.
    #[must_use]
    pub fn explain_filter(&self, set: u32, names: Names<'_>, filter: &TopicFilter<'_>) -> Decision<'_> {
        let (coverage, meeting) = self.meeting(set, names, filter);
        let rule = match coverage {
            Coverage::Disjoint => meeting.deny_covers,
            Coverage::Covered => meeting.grant_covers,
            Coverage::Partial if meeting.deny_meets != NONE => meeting.deny_meets,
            Coverage::Partial => meeting.grant_meets,
        };
        Decision { coverage, rule: self.view(rule) }
    }

    fn met(&self, set: u32, names: Names<'_>, topic: &str, grant: Kind) -> (bool, Met) {
        let mut met = Met::new(grant);
        for role in self.roles_of(set) {
            role.trie.find_topic(names, topic, &mut met);
        }
        let is_granted = met.grant != NONE || self.default == Access::Allow;
        (is_granted && met.deny == NONE, met)
    }

    fn meeting(&self, set: u32, names: Names<'_>, filter: &TopicFilter<'_>) -> (Coverage, Meeting) {
        let mut meeting = Meeting::NONE;
        for role in self.roles_of(set) {
            role.trie.find_filter(names, filter.filter(), &mut meeting);
        }
        let is_default = self.default == Access::Allow;
        let is_covered = is_default || meeting.grant_covers != NONE;
        let is_met = is_default || meeting.grant_meets != NONE;
        let coverage = if !is_met || meeting.deny_covers != NONE {
            Coverage::Disjoint
        } else if is_covered && meeting.deny_meets == NONE {
            Coverage::Covered
        } else {
            Coverage::Partial
        };
        (coverage, meeting)
    }

    fn roles_of(&self, set: u32) -> impl Iterator<Item = &Role> {
        let Set { roles, .. } = self.sets.get(set);
        roles.iter().map(|&role| &self.roles[role as usize])
    }

    fn view(&self, rule: u32) -> Option<RuleView<'_>> {
        let rule = self.written.get(rule as usize)?;
        let role = &self.roles[rule.role as usize].name;
        Some(RuleView { kind: rule.kind, filter: &rule.filter, role, origin: rule.origin })
    }
}

fn sorted(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
