//! The children of a trie's node for levels without wildcards, as the node itself knows them: how many, which one if it is the only
//! one, and the highest cost among them. The table of edges finds them.
//!
//! Invariants worth naming:
//! - The costs of siblings are nearly always equal, and then they are one number. A list of different costs is as long as there are
//!   different ones, so adding and removing a child takes the same time however many siblings it has.
//! - The exclusive or of the children's numbers is the number of the last one that is left.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::heap;

#[derive(PartialEq, Debug, Default)]
pub(super) enum Literals {
    #[default]
    None,
    /// All have one cost.
    Alike {
        cost: u32,
        count: u32,
        xor: u32,
    },
    Mixed(Box<Mixed>),
}

/// Children of at least two different costs.
#[derive(PartialEq, Debug)]
pub(super) struct Mixed {
    /// Each cost with the number of children that have it, in the order of costs.
    counts: Vec<(u32, u32)>,
    xor: u32,
}

impl Literals {
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Alike { count, .. } => *count,
            Self::Mixed(mixed) => mixed.counts.iter().map(|(_, count)| count).sum(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The child, if there is one only.
    pub(super) fn only(&self) -> Option<u32> {
        match self {
            Self::Alike { count: 1, xor, .. } => Some(*xor),
            Self::None | Self::Alike { .. } | Self::Mixed(_) => None,
        }
    }

    /// The highest cost of a child; 0 if there is none.
    pub(super) fn cost_max(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Alike { cost, .. } => *cost,
            Self::Mixed(mixed) => mixed.counts.last().map_or(0, |&(cost, _)| cost),
        }
    }

    pub(super) fn add(&mut self, child: u32, added_cost: u32) {
        match self {
            Self::None => *self = Self::Alike { cost: added_cost, count: 1, xor: child },
            Self::Alike { cost, count, xor } if *cost == added_cost => {
                *count += 1;
                *xor ^= child;
            }
            Self::Alike { cost, count, xor } => {
                let mut counts = Vec::with_capacity(2);
                counts.extend([(*cost, *count), (added_cost, 1)]);
                counts.sort_unstable();
                let xor = *xor ^ child;
                *self = Self::Mixed(Box::new(Mixed { counts, xor }));
            }
            Self::Mixed(mixed) => {
                mixed.xor ^= child;
                mixed.count_in(added_cost);
            }
        }
    }

    pub(super) fn remove(&mut self, child: u32, removed_cost: u32) {
        match self {
            Self::None => unreachable!("a child is removed once"),
            Self::Alike { cost, count, xor } => {
                assert!(*cost == removed_cost);
                *count -= 1;
                *xor ^= child;
                if *count == 0 {
                    assert!(*xor == 0);
                    *self = Self::None;
                }
            }
            Self::Mixed(mixed) => {
                mixed.xor ^= child;
                mixed.count_out(removed_cost);
                self.simplify();
            }
        }
    }

    /// The cost of one child has changed.
    pub(super) fn change(&mut self, old_cost: u32, new_cost: u32) {
        match self {
            Self::None => unreachable!("a child has changed"),
            Self::Alike { cost, count: 1, .. } => {
                assert!(*cost == old_cost);
                *cost = new_cost;
            }
            Self::Alike { .. } => {
                self.remove(0, old_cost);
                self.add(0, new_cost);
            }
            Self::Mixed(mixed) => {
                mixed.count_in(new_cost);
                mixed.count_out(old_cost);
                self.simplify();
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> u64 {
        match self {
            Self::None | Self::Alike { .. } => 0,
            Self::Mixed(mixed) => {
                heap::block(size_of::<Mixed>())
                    + heap::block(mixed.counts.capacity() * size_of::<(u32, u32)>())
            }
        }
    }

    fn simplify(&mut self) {
        if let Self::Mixed(mixed) = self
            && let [(cost, count)] = mixed.counts[..]
        {
            *self = Self::Alike { cost, count, xor: mixed.xor };
        }
    }
}

impl Mixed {
    fn count_in(&mut self, cost: u32) {
        match self.counts.binary_search_by_key(&cost, |&(cost, _)| cost) {
            Ok(at) => self.counts[at].1 += 1,
            Err(at) => self.counts.insert(at, (cost, 1)),
        }
    }

    fn count_out(&mut self, cost: u32) {
        let Ok(at) = self.counts.binary_search_by_key(&cost, |&(cost, _)| cost) else {
            unreachable!("the cost of a child is counted")
        };
        self.counts[at].1 -= 1;
        if self.counts[at].1 == 0 {
            self.counts.remove(at);
            if self.counts.capacity() / 4 > self.counts.len() {
                self.counts.shrink_to(self.counts.len() * 2);
            }
        }
    }
}

const _: () = assert!(size_of::<Literals>() == 16);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn the_highest_cost_and_the_only_child_are_known_whatever_comes_and_goes() {
        let (mut literals, mut model) = (Literals::default(), BTreeMap::new());
        let mut seed = 5u64;
        let mut next = |bound: u32| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(seed >> 33).unwrap() % bound
        };
        let mut seen_mixed = 0;
        for round in 0..20_000u32 {
            // Children come more often at times, and go more often at others.
            let (child, cost) = (next(12), 1 + next(if round % 4_000 < 1_000 { 1 } else { 5 }));
            match model.get(&child).copied() {
                None if next(6) < 2 + round / 5_000 => {
                    literals.add(child, cost);
                    model.insert(child, cost);
                }
                Some(old) if next(2) == 0 => {
                    literals.change(old, cost);
                    model.insert(child, cost);
                }
                Some(old) => {
                    literals.remove(child, old);
                    model.remove(&child);
                }
                None => {}
            }
            assert_eq!(literals.count() as usize, model.len());
            assert_eq!(literals.cost_max(), model.values().copied().max().unwrap_or(0));
            assert_eq!(literals.is_empty(), model.is_empty());
            let only = model.keys().next().filter(|_| model.len() == 1).copied();
            assert_eq!(literals.only(), only);
            let mut costs: Vec<u32> = model.values().copied().collect();
            costs.sort_unstable();
            costs.dedup();
            assert_eq!(matches!(literals, Literals::Mixed(_)), costs.len() > 1);
            assert_eq!(literals.heap_bytes() > 0, costs.len() > 1);
            seen_mixed += u32::from(costs.len() > 2);
        }
        assert!(seen_mixed > 1_000);
    }
}
