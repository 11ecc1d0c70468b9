//! Users: the names that the host's verdicts give to clients. Each is kept once, and counted by the places that name it: sessions,
//! retained messages, and messages that wait to be published.
//!
//! Invariants: a user is here as long as a place names it and no longer; a client that nobody judged and no rule binds is `None`
//! and takes nothing.

use alloc::boxed::Box;
use core::num::NonZeroU32;

use crate::base::hash::Keyed;
use crate::base::heap;
use crate::base::index::Index;
use crate::base::slab::Slab;
use crate::base::time::Instant;
use crate::message::user_name::UserName;

/// The part of a verdict that says who a client is and what it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserGrant<'a> {
    /// The name of the user; `None` for an anonymous client.
    pub user: Option<&'a str>,
    /// Roles that the verdict gives beside those of the user, such as a token's. Names that no rule has count for nothing.
    pub roles: &'a [&'a str],
    /// The client identifier that the user is bound to; another one is refused with 0x85. `None`: any.
    pub client_id_must_be: Option<&'a str>,
    /// When the grant ends; `None`: never.
    pub expires_at: Option<Instant>,
    /// Whether a list of users recognised it, of which [`crate::Event::Users`] tells the changes.
    pub is_listed: bool,
}

impl UserGrant<'_> {
    /// The grant of a client that nobody judged.
    pub const NOBODY: Self =
        Self { user: None, roles: &[], client_id_must_be: None, expires_at: None, is_listed: false };

    /// The user as tables know it.
    pub(crate) fn user_name(&self) -> UserName<'_> {
        UserName::new(self.user.unwrap_or_default())
    }
}

/// The number of a user on its shard, while a place names it. 0 is no user, so an `Option` of it takes four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UserId(NonZeroU32);

impl UserId {
    fn new(slot: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(slot))
    }

    fn slot(self) -> u32 {
        self.0.get() - 1
    }
}

#[derive(Debug)]
struct User {
    name: Box<str>,
    /// Places that name it.
    holders: u32,
}

impl User {
    fn name(&self) -> UserName<'_> {
        UserName::new(&self.name)
    }

    fn text_bytes(&self) -> u64 {
        heap::block(self.name.len())
    }
}

/// **Lives on:** every shard. **Sees:** the users of its sessions and of its retained messages.
#[derive(Debug)]
pub(crate) struct Users {
    slab: Slab<User>,
    by_name: Index,
    hasher: Keyed,
    text_bytes: u64,
}

impl Users {
    pub(crate) fn new(hasher: Keyed) -> Self {
        // No number of a user leaves the engine, so none that comes back can be stale.
        Self { slab: Slab::new(u32::BITS), by_name: Index::new(), hasher, text_bytes: 0 }
    }

    /// The user of this name, which one more place names. `None` for nobody.
    pub(crate) fn hold_named(&mut self, name: UserName<'_>) -> Option<UserId> {
        if name.is_nobody() {
            return None;
        }
        let hash = hash(self.hasher, name);
        let known =
            self.by_name.find(hash, |slot| self.slab.at(slot).is_some_and(|user| user.name() == name));
        if let Some(slot) = known {
            let id = UserId::new(slot);
            self.hold(Some(id));
            return Some(id);
        }
        let user = User { name: name.name().into(), holders: 1 };
        self.text_bytes += user.text_bytes();
        let slot = self.slab.insert(user).index();
        self.by_name.insert(hash, slot);
        Some(UserId::new(slot))
    }

    /// One more place names a user.
    pub(crate) fn hold(&mut self, id: Option<UserId>) {
        if let Some(user) = id.and_then(|id| self.slab.at_mut(id.slot())) {
            assert!(user.holders > 0);
            user.holders += 1;
        }
    }

    /// A place names a user no more. The last one forgets it.
    #[inline]
    pub(crate) fn release(&mut self, id: Option<UserId>) {
        if let Some(id) = id {
            self.release_one(id);
        }
    }

    fn release_one(&mut self, id: UserId) {
        let user = self.slab.at_mut(id.slot());
        assert!(user.is_some());
        let Some(user) = user else { return };
        assert!(user.holders > 0);
        user.holders -= 1;
        if user.holders > 0 {
            return;
        }
        let hash = hash(self.hasher, user.name());
        assert!(self.text_bytes >= user.text_bytes());
        self.text_bytes -= user.text_bytes();
        self.by_name.remove(hash, id.slot());
        let removed = self.slab.key_at(id.slot()).and_then(|key| self.slab.remove(key));
        assert!(removed.is_some());
    }

    /// The name of a user; nobody's for `None`.
    pub(crate) fn name_of(&self, id: Option<UserId>) -> UserName<'_> {
        let user = id.map(|id| self.slab.at(id.slot()));
        assert!(user.is_none_or(|user| user.is_some()));
        user.flatten().map_or(UserName::NOBODY, User::name)
    }

    /// Bytes of slots, names and their table.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.slab.bytes_held() + self.by_name.bytes_held() + self.text_bytes
    }

    /// Compares the counts with the places that name users, and recomputes the rest, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self, places: impl Iterator<Item = UserId>) {
        let mut holders = alloc::vec![0; self.slab.slot_count() as usize];
        for id in places {
            holders[id.slot() as usize] += 1;
        }
        for (key, user) in self.slab.iter() {
            assert!(user.holders == holders[key.index() as usize]);
            assert!(user.holders > 0 && !user.name().is_nobody());
        }
        assert!(holders.iter().filter(|&&count| count > 0).count() == self.slab.len() as usize);
        assert!(self.by_name.len() == self.slab.len() as usize);
        assert!(self.slab.iter().map(|(_, user)| user.text_bytes()).sum::<u64>() == self.text_bytes);
        self.slab.check();
        self.by_name.check();
    }
}

/// Peers choose names, so they are hashed under the key.
fn hash(hasher: Keyed, name: UserName<'_>) -> u64 {
    hasher.bytes(name.name().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Entropy;

    #[test]
    fn a_user_is_kept_once_and_as_long_as_a_place_names_it() {
        let mut users = Users::new(Keyed::new(Entropy(1)));
        assert_eq!(users.hold_named(UserName::NOBODY), None);
        let ann = users.hold_named(UserName::new("ann"));
        let bob = users.hold_named(UserName::new("bob"));
        assert_eq!(users.hold_named(UserName::new("ann")), ann);
        assert!(bob.is_some() && bob != ann);
        assert_eq!(users.name_of(bob), UserName::new("bob"));
        users.check(bob.into_iter().chain(ann).chain(ann));
        users.release(ann);
        assert_eq!(users.name_of(ann).name(), "ann");
        users.release(ann);
        users.release(bob);
        users.check(core::iter::empty());
        assert_eq!(users.text_bytes, 0);
    }
}
