//! The failures of subjects within a window, until they lead to a ban.
//!
//! Invariant: there is a bound for all, and one for each group. At a bound the subject with the fewest failures goes, of equals the one
//! that began first; so names that are invented push each other out, and neither those of other groups nor those that failed more often.

use std::collections::{BTreeMap, BTreeSet};

use super::Subject;

/// Subjects that are counted.
pub(super) const COUNTED_MAX: usize = 65_536;
/// Those of one group: names from one address, or client identifiers of one user.
pub(super) const GROUP_COUNTED_MAX: usize = 1_024;
/// Subjects whose window is over that one more makes room by. Few, because it holds the lock meanwhile.
const FORGOTTEN_AT_ONCE: usize = 4;

#[expect(clippy::disallowed_types, reason = "the lock of the bans is around it")]
type Shared<T> = std::sync::Arc<T>;

/// Subjects, the fewest failures first, and of equals the oldest.
type Ranks = BTreeSet<(u32, u64, Shared<Subject>)>;

#[derive(Debug, Default)]
pub(super) struct Counts {
    counted: BTreeMap<Shared<Subject>, Counted>,
    /// The same by their ranks.
    ranks: Ranks,
    /// The same by their groups, none of which is empty.
    groups: BTreeMap<Subject, Ranks>,
    /// The same by the beginning of their window.
    ages: BTreeSet<(u64, Shared<Subject>)>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    count: u32,
    since_ms: u64,
}

impl Counts {
    /// Counts one more failure. Returns how many there are in this window.
    pub(super) fn add(&mut self, subject: &Subject, window_ms: u64, now_ms: u64) -> u32 {
        let before = self.remove(subject);
        let (subject, mut counted) = before.unwrap_or_else(|| {
            self.make_room(subject, window_ms, now_ms);
            (Shared::new(subject.clone()), Counted { count: 0, since_ms: now_ms })
        });
        if now_ms >= counted.since_ms.saturating_add(window_ms) {
            counted = Counted { count: 0, since_ms: now_ms };
        }
        counted.count = counted.count.saturating_add(1);
        let rank = (counted.count, counted.since_ms, Shared::clone(&subject));
        self.groups.entry(subject.group_begin()).or_default().insert(rank.clone());
        self.ranks.insert(rank);
        self.ages.insert((counted.since_ms, Shared::clone(&subject)));
        self.counted.insert(subject, counted);
        assert!(self.len() <= COUNTED_MAX && self.ranks.len() == self.len() && self.ages.len() == self.len());
        counted.count
    }

    /// Forgets the failures of a subject.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.remove(subject);
    }

    /// Forgets all failures of these subjects.
    pub(super) fn forget_if(&mut self, mut applies: impl FnMut(&Subject) -> bool) {
        let gone: Vec<_> = self.counted.keys().filter(|subject| applies(subject)).cloned().collect();
        for subject in gone {
            self.remove(&subject);
        }
    }

    /// Subjects that are counted.
    pub(super) fn len(&self) -> usize {
        self.counted.len()
    }

    fn remove(&mut self, subject: &Subject) -> Option<(Shared<Subject>, Counted)> {
        let (subject, counted) = self.counted.remove_entry(subject)?;
        let rank = (counted.count, counted.since_ms, Shared::clone(&subject));
        let was_ranked = self.ranks.remove(&rank);
        let group = subject.group_begin();
        let ranks = self.groups.get_mut(&group);
        assert!(ranks.is_some_and(|ranks| ranks.remove(&rank)));
        if self.groups.get(&group).is_some_and(Ranks::is_empty) {
            self.groups.remove(&group);
        }
        let had_age = self.ages.remove(&(counted.since_ms, Shared::clone(&subject)));
        assert!(was_ranked && had_age);
        Some((subject, counted))
    }

    fn make_room(&mut self, subject: &Subject, window_ms: u64, now_ms: u64) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((since_ms, oldest)) = self.ages.first() else { break };
            if now_ms < since_ms.saturating_add(window_ms) {
                break;
            }
            let oldest = Shared::clone(oldest);
            self.remove(&oldest);
        }
        let group = self.groups.get(&subject.group_begin());
        let full = if group.is_some_and(|group| group.len() >= GROUP_COUNTED_MAX) {
            group
        } else {
            (self.len() >= COUNTED_MAX).then_some(&self.ranks)
        };
        let least = full.and_then(|ranks| ranks.first()).map(|(_, _, least)| least);
        if let Some(least) = least.cloned() {
            self.remove(&least);
        }
    }
}
