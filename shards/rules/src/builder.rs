//! Rules while they are collected: from roles, users and mosquitto's file of rules.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use wire::{Malformed, TopicFilter};

use crate::level::{Level, Piece};
use crate::rules::{Access, Holders, Kind, Origin, Role, Rule, Rules, Use, Uses};
use crate::trie::{LEVELS_MAX, Path, Trie};

/// A role of a builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleId(u32);

/// The reason why a filter is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleFault {
    /// It is empty.
    Empty,
    /// It is longer than a topic filter can be.
    TooLong,
    /// It has more than 128 levels.
    TooDeep,
    /// It contains U+0000.
    HasNull,
    /// `+` is not a level of its own, or `#` is not the last level.
    WildcardMisplaced,
    /// It begins with `$share/`: a rule names the filter, and `shares` names the groups.
    Shared,
}

impl fmt::Display for RuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the filter is empty",
            Self::TooLong => "the filter is longer than 65535 bytes",
            Self::TooDeep => "the filter has more than 128 levels",
            Self::HasNull => "the filter contains U+0000",
            Self::WildcardMisplaced => "`+` must be a level of its own, and `#` the last level",
            Self::Shared => "write the filter after `$share/NAME/` alone; `shares` names the groups",
        })
    }
}

/// A user was given a role that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFault<'a> {
    /// The name of the role.
    pub role: &'a str,
}

impl fmt::Display for UserFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no role {:?}", self.role)
    }
}

struct RoleDraft {
    name: Box<str>,
    rules: Vec<(Path, Kind, u32)>,
    shares: Option<Vec<Level>>,
    uses: Uses,
}

/// Collects rules.
pub struct RulesBuilder {
    default: Access,
    roles: Vec<RoleDraft>,
    rules: Vec<Rule>,
    holders: Holders,
    /// The roles that users have by an `acl_file`.
    of_acl: BTreeMap<Box<str>, u32>,
}

impl RulesBuilder {
    /// Begins without rules.
    #[must_use]
    pub fn new(default: Access) -> Self {
        let (roles, rules, of_acl) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { default, roles, rules, holders: Holders::default(), of_acl }
    }

    /// The role of this name, made if there is none.
    pub fn role(&mut self, name: &str) -> RoleId {
        if let Some(&role) = self.holders.named.get(name) {
            return RoleId(role);
        }
        let role = self.unnamed_role(name);
        self.holders.named.insert(name.into(), role.0);
        role
    }

    /// Adds a rule, in whose filter `%c` and `%u` are placeholders.
    ///
    /// # Errors
    /// If the filter is none.
    pub fn add(&mut self, role: RoleId, kind: Kind, filter: &str, origin: Origin) -> Result<(), RuleFault> {
        if filter.starts_with("$share/") {
            return Err(RuleFault::Shared);
        }
        self.add_rule(role, kind, filter, (origin, Level::with_placeholders))
    }

    /// Bounds the groups that a role lets its clients join to these names, in which `%c` and `%u` are placeholders. A role that
    /// does not speak of groups lets its clients join all that their other roles do not bound.
    pub fn set_shares(&mut self, role: RoleId, share_names: &[&str]) {
        let role = &mut self.roles[role.0 as usize];
        let shares = share_names.iter().map(|name| Level::with_placeholders(name));
        role.shares = Some(shares.inspect(|share| role.uses.add(share, Use::Grant)).collect());
    }

    /// Gives a user roles; an empty name stands for clients without a user.
    ///
    /// # Errors
    /// If a role does not exist.
    pub fn user<'a>(&mut self, name: &str, roles: &[&'a str]) -> Result<(), UserFault<'a>> {
        for &role in roles {
            let number = *self.holders.named.get(role).ok_or(UserFault { role })?;
            self.give(name, number);
        }
        Ok(())
    }

    /// Gives roles to every client, those without a user included.
    ///
    /// # Errors
    /// If a role does not exist.
    pub fn everybody<'a>(&mut self, roles: &[&'a str]) -> Result<(), UserFault<'a>> {
        for &role in roles {
            self.holders.every.push(*self.holders.named.get(role).ok_or(UserFault { role })?);
        }
        Ok(())
    }

    /// Completes the rules.
    #[must_use]
    pub fn build(self) -> Rules {
        let roles = self.roles.into_iter().map(|RoleDraft { name, rules, shares, uses }| Role {
            name,
            trie: Trie::build(rules.into_iter()),
            shares: shares.map(Vec::into_boxed_slice),
            uses,
        });
        Rules::new(self.default, roles.collect(), self.rules.into_boxed_slice(), self.holders)
    }

    /// The role that a user of an `acl_file` has by it, or that clients without a user have.
    pub(crate) fn role_of_acl(&mut self, user: &str) -> RoleId {
        if let Some(&role) = self.of_acl.get(user) {
            return RoleId(role);
        }
        let role = self.unnamed_role("acl_file");
        self.of_acl.insert(user.into(), role.0);
        self.give(user, role.0);
        role
    }

    /// A role that everybody has.
    pub(crate) fn role_of_everybody(&mut self) -> RoleId {
        let role = self.unnamed_role("acl_file");
        self.holders.every.push(role.0);
        role
    }

    /// Adds a rule, with a function for its levels.
    pub(crate) fn add_rule(
        &mut self,
        role: RoleId,
        kind: Kind,
        filter: &str,
        (origin, level): (Origin, fn(&str) -> Level),
    ) -> Result<(), RuleFault> {
        let path = path_of(filter, level)?;
        let draft = &mut self.roles[role.0 as usize];
        for level in &path.levels {
            draft.uses.add(level, if kind == Kind::Deny { Use::Deny } else { Use::Grant });
        }
        let rule = number(self.rules.len());
        draft.rules.push((path, kind, rule));
        self.rules.push(Rule { kind, filter: filter.into(), role: role.0, origin });
        Ok(())
    }

    /// A role that no claim can name.
    fn unnamed_role(&mut self, name: &str) -> RoleId {
        let role = number(self.roles.len());
        let (rules, shares, uses) = (Vec::new(), None, Uses::default());
        self.roles.push(RoleDraft { name: name.into(), rules, shares, uses });
        RoleId(role)
    }

    fn give(&mut self, user: &str, role: u32) {
        if user.is_empty() {
            self.holders.nobody.push(role);
        } else {
            self.holders.users.entry(user.into()).or_default().push(role);
        }
    }
}

impl Uses {
    fn add(&mut self, level: &Level, by: Use) {
        if level.uses(&Piece::ClientId) {
            self.client_id = self.client_id.max(by);
        }
        if level.uses(&Piece::User) {
            self.user = self.user.max(by);
        }
    }
}

fn path_of(text: &str, level: fn(&str) -> Level) -> Result<Path, RuleFault> {
    if text.is_empty() {
        return Err(RuleFault::Empty);
    }
    if text.len() > usize::from(u16::MAX) {
        return Err(RuleFault::TooLong);
    }
    if text.contains('\0') {
        return Err(RuleFault::HasNull);
    }
    TopicFilter::parse_unshared(text).map_err(|_: Malformed| RuleFault::WildcardMisplaced)?;
    let (path, is_multi) = match text.strip_suffix('#') {
        Some(path) => (path.strip_suffix('/'), true),
        None => (Some(text), false),
    };
    let levels = path.into_iter().flat_map(|path| path.split('/'));
    if levels.clone().count() > LEVELS_MAX {
        return Err(RuleFault::TooDeep);
    }
    Ok(Path { levels: levels.map(level).collect(), is_multi })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("memory has room for fewer rules than 2^32")
}
