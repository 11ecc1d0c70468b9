//! The sets of roles that clients hold, each under a number.
//!
//! Invariants worth naming:
//! - A set is added once and never changed or removed, so a number is valid as long as its `Rules`, on every shard.
//! - Adding takes no lock: a slot is written once, and whoever comes second finds what the first wrote.
//! - Sets have no tries of their own. A client with a combination of roles that nobody had before costs a few words, not a build.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use once_cell::race::OnceBox;

/// The most roles of a client, since each is one look-up.
pub const ROLES_PER_SET_MAX: usize = 64;
/// Sets beyond one for each user, for combinations that tokens claim.
const CLAIMED_SETS_MAX: usize = 4096;

/// The reason why a client's roles make no set. It must not be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetFault {
    /// More than [`ROLES_PER_SET_MAX`] roles.
    TooManyRoles,
    /// Tokens claimed more different combinations than there is room for.
    TooManySets,
}

impl fmt::Display for SetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRoles => write!(f, "more than {ROLES_PER_SET_MAX} roles"),
            Self::TooManySets => f.write_str("too many different combinations of roles"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// Roles by the configuration.
    own: Box<[u32]>,
    /// Roles by the client's token.
    pub(crate) claimed: Box<[u32]>,
    /// Both, each once.
    pub(crate) roles: Box<[u32]>,
}

/// Open addressing by the roles. **Lives on:** the `Rules` of all shards.
#[derive(Debug)]
pub(crate) struct Sets {
    slots: Box<[OnceBox<Set>]>,
}

impl Sets {
    pub(crate) fn for_users(user_count: usize) -> Self {
        let slot_count = (2 * (user_count + CLAIMED_SETS_MAX)).next_power_of_two();
        let mut slots = Vec::new();
        slots.resize_with(slot_count, OnceBox::new);
        Self { slots: slots.into_boxed_slice() }
    }

    /// # Panics
    /// If no set has this number.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> &Set {
        self.slots[number as usize].get().expect("a number is given out with its set")
    }

    /// Both lists are sorted, without doubles.
    pub(crate) fn find_or_add(&self, own: &[u32], claimed: &[u32]) -> Result<u32, SetFault> {
        let mut roles: Vec<u32> = own.iter().chain(claimed).copied().collect();
        roles.sort_unstable();
        roles.dedup();
        if roles.len() > ROLES_PER_SET_MAX {
            return Err(SetFault::TooManyRoles);
        }
        let mut new = Some(Box::new(Set { own: own.into(), claimed: claimed.into(), roles: roles.into() }));
        let mask = self.slots.len() - 1;
        let first = hash(own, claimed);
        for probe in 0..self.slots.len() {
            let at = first.wrapping_add(probe) & mask;
            let slot = &self.slots[at];
            if slot.get().is_none()
                && let Some(set) = new.take()
                && let Err(set) = slot.set(set)
            {
                // Another shard was faster.
                new = Some(set);
            }
            let Some(set) = slot.get() else { continue };
            if *set.own == *own && *set.claimed == *claimed {
                return u32::try_from(at).map_err(|_| SetFault::TooManySets);
            }
        }
        Err(SetFault::TooManySets)
    }
}

/// Peers choose no role numbers, so the hash needs no key.
fn hash(own: &[u32], claimed: &[u32]) -> usize {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |hash: u64, number: u32| (hash.rotate_left(5) ^ u64::from(number)).wrapping_mul(FACTOR);
    let hash = claimed
        .iter()
        .fold(mix(own.iter().fold(0, |hash, &role| mix(hash, role)), u32::MAX), |hash, &role| {
            mix(hash, role)
        });
    (hash >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_number_and_others_their_own() {
        let sets = Sets::for_users(0);
        let one = sets.find_or_add(&[1, 2], &[]).unwrap();
        assert_eq!(sets.find_or_add(&[1, 2], &[]), Ok(one));
        let claimed = sets.find_or_add(&[1], &[2]).unwrap();
        assert_ne!(one, claimed, "claims outlive a change of the configuration");
        assert_eq!(sets.get(one).roles, sets.get(claimed).roles);
        let none = sets.find_or_add(&[], &[]).unwrap();
        assert!(sets.get(none).roles.is_empty());
    }

    #[test]
    fn a_full_table_and_too_many_roles_are_refused() {
        let sets = Sets::for_users(0);
        let room = u32::try_from(sets.slots.len()).unwrap();
        for role in 0..room {
            sets.find_or_add(&[role], &[]).unwrap();
        }
        assert_eq!(sets.find_or_add(&[room], &[]), Err(SetFault::TooManySets));
        assert!(sets.find_or_add(&[0], &[]).is_ok());
        let many: Vec<u32> = (0..65).collect();
        assert_eq!(sets.find_or_add(&many, &[]), Err(SetFault::TooManyRoles));
        assert_eq!(sets.find_or_add(&many[..64], &[1]), Err(SetFault::TooManySets));
    }
}
