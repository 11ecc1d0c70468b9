//! A hierarchical timer wheel: it takes deadlines and gives out the timers that are due.
//!
//! Invariants worth naming:
//! - A timer never comes before its deadline: one in a coarse slot is placed anew, finer, when the wheel reaches that slot.
//! - Each level has one word of occupied slots, so the next deadline costs one look a level, however many timers are set.

use alloc::vec::Vec;

use crate::base::slab::{Key, Slab};
use crate::base::time::Instant;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Six levels of 64 slots at 1 ms: 2³⁶ ms, 795 days. A later deadline waits in the last slot of the
/// top level and is placed anew when the wheel gets there.
const LEVELS: usize = 6;
const HORIZON_MS: u64 = 1 << (SLOT_BITS as u64 * LEVELS as u64);
/// One slot less than a whole round, so that the farthest slot is never the current one.
const REACH_MS: u64 = HORIZON_MS - (HORIZON_MS >> SLOT_BITS);
const NONE: u32 = u32::MAX;

/// The name of a timer that was set. It is stale once the timer was due or cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerId(Key);

/// A moment in two words of 32 bits: a word of 64 would make each entry a multiple of eight bytes long.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    high: u32,
    low: u32,
}

impl Deadline {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    fn new(at: Instant) -> Self {
        Self { high: (at.as_ms() >> 32) as u32, low: at.as_ms() as u32 }
    }

    fn at(self) -> Instant {
        Instant::from_ms(u64::from(self.high) << 32 | u64::from(self.low))
    }
}

#[derive(Debug)]
struct Entry<T> {
    deadline: Deadline,
    what: T,
    /// The list that it is linked in: level × 64 + slot.
    place: u16,
    next: u32,
    previous: u32,
}

/// **Lives on:** every shard. **Sees:** timers of connections and sessions of this shard.
#[derive(Debug)]
pub(crate) struct TimerWheel<T> {
    entries: Slab<Entry<T>>,
    heads: Vec<u32>,
    occupied: [u64; LEVELS],
    /// Every timer due before this moment was given out. Slots are relative to it.
    now_ms: u64,
}

impl<T: Copy> TimerWheel<T> {
    /// Bytes of a timer.
    pub(crate) const TIMER_BYTES: usize = Slab::<Entry<T>>::SLOT_BYTES;

    pub(crate) fn new(now: Instant, generation_bits: u32) -> Self {
        let mut heads = Vec::new();
        heads.resize(SLOTS * LEVELS, NONE);
        Self { entries: Slab::new(generation_bits), heads, occupied: [0; LEVELS], now_ms: now.as_ms() }
    }

    pub(crate) fn len(&self) -> u32 {
        self.entries.len()
    }

    /// Bytes of the timers that were ever set at once.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.entries.bytes_held()
    }

    pub(crate) fn insert(&mut self, deadline: Instant, what: T) -> TimerId {
        let (level, slot) = self.place_of(deadline);
        let place = level * SLOTS + slot;
        let next = self.heads[place];
        let key = self.entries.insert(Entry {
            deadline: Deadline::new(deadline),
            what,
            place: short(place),
            next,
            previous: NONE,
        });
        self.link(key.index(), (level, slot), next);
        TimerId(key)
    }

    /// Takes a timer out before it is due; `false` if it was due or cancelled already.
    pub(crate) fn cancel(&mut self, timer: TimerId) -> bool {
        let Some(entry) = self.entries.remove(timer.0) else { return false };
        self.unlink(timer.0.index(), entry.links());
        true
    }

    /// The moment that a timer is due; `None` if it was due or cancelled.
    pub(crate) fn deadline(&self, timer: TimerId) -> Option<Instant> {
        self.entries.get(timer.0).map(|entry| entry.deadline.at())
    }

    /// The next timer due at `now`; `None` if there is none, or once `moves_left` timers were placed anew, which counts
    /// down. Then the next deadline is not later than `now`, and the next call goes on.
    pub(crate) fn pop_due(&mut self, now: Instant, moves_left: &mut u32) -> Option<T> {
        loop {
            let (level, slot, start_ms) = self.first_occupied()?;
            if start_ms > now.as_ms() {
                self.now_ms = self.now_ms.max(now.as_ms());
                return None;
            }
            self.now_ms = self.now_ms.max(start_ms);
            let index = self.heads[level * SLOTS + slot];
            let entry = self.entries.at(index).expect("a linked entry lives");
            let (deadline, what, links) = (entry.deadline.at(), entry.what, entry.links());
            if deadline.as_ms() > now.as_ms() && *moves_left == 0 {
                return None;
            }
            self.unlink(index, links);
            if deadline.as_ms() <= now.as_ms() {
                let removed = self.entries.remove_at(index);
                assert!(removed.is_some());
                return Some(what);
            }
            // A coarse slot was opened: place its entry again, now finer.
            *moves_left -= 1;
            let (level, slot) = self.place_of(deadline);
            let place = level * SLOTS + slot;
            let next = self.heads[place];
            let entry = self.entries.at_mut(index).expect("a linked entry lives");
            (entry.place, entry.next, entry.previous) = (short(place), next, NONE);
            self.link(index, (level, slot), next);
        }
    }

    /// No timer is due before this moment; one may be due at it. `None` if none is set.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.first_occupied().map(|(_, _, start_ms)| Instant::from_ms(start_ms))
    }

    /// Follows every list of the wheel, for an audit.
    ///
    /// # Panics
    /// If a timer hangs in no list, or in a wrong one.
    pub(crate) fn check(&self) {
        self.entries.check();
        let mut linked_count = 0;
        for (place, &head) in self.heads.iter().enumerate() {
            assert!((head == NONE) == (self.occupied[place / SLOTS] >> (place % SLOTS) & 1 == 0));
            let (mut at, mut previous) = (head, NONE);
            while let Some(entry) = self.entries.at(at) {
                assert!(usize::from(entry.place) == place);
                assert!(entry.previous == previous);
                (previous, at) = (at, entry.next);
                linked_count += 1;
            }
            assert!(at == NONE);
        }
        assert!(linked_count == self.entries.len());
    }

    /// The level and the slot of a deadline.
    fn place_of(&self, deadline: Instant) -> (usize, usize) {
        let at_ms = deadline.as_ms().clamp(self.now_ms, self.now_ms + REACH_MS);
        // The level is that of the highest bit in which the deadline differs from now.
        let differs = (at_ms ^ self.now_ms) | (SLOTS as u64 - 1);
        let level = ((differs.ilog2() / SLOT_BITS) as usize).min(LEVELS - 1);
        (level, slot_at(at_ms, level))
    }

    /// Puts an entry that knows its place and the `next` one before that.
    fn link(&mut self, index: u32, (level, slot): (usize, usize), next: u32) {
        self.heads[level * SLOTS + slot] = index;
        self.occupied[level] |= 1 << slot;
        if let Some(entry) = self.entries.at_mut(next) {
            entry.previous = index;
        }
    }

    /// Takes an entry with these links out of its list.
    fn unlink(&mut self, index: u32, (place, next, previous): (usize, u32, u32)) {
        if let Some(entry) = self.entries.at_mut(next) {
            entry.previous = previous;
        }
        if previous == NONE {
            assert!(self.heads[place] == index);
            self.heads[place] = next;
            if next == NONE {
                self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
            }
        } else {
            self.entries.at_mut(previous).expect("a neighbour lives").next = next;
        }
    }

    /// The occupied slot whose span starts first: its level, its number, its start in milliseconds.
    fn first_occupied(&self) -> Option<(usize, usize, u64)> {
        let mut best: Option<(usize, usize, u64)> = None;
        for level in 0..LEVELS {
            if self.occupied[level] == 0 {
                continue;
            }
            let shift = SLOT_BITS as usize * level;
            let current = slot_at(self.now_ms, level);
            let shift_to_current = u32::try_from(current).expect("below 64");
            let ahead = self.occupied[level].rotate_right(shift_to_current).trailing_zeros() as usize;
            let slot = (current + ahead) & (SLOTS - 1);
            let start_ms = (((self.now_ms >> shift) + ahead as u64) << shift).max(self.now_ms);
            if best.is_none_or(|(_, _, best_ms)| start_ms < best_ms) {
                best = Some((level, slot, start_ms));
            }
        }
        best
    }
}

impl<T> Entry<T> {
    /// Its place, the next entry and the one before.
    fn links(&self) -> (usize, u32, u32) {
        (usize::from(self.place), self.next, self.previous)
    }
}

/// One of the 384 places.
#[inline]
fn short(place: usize) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "there are 384")]
    let place = place as u16;
    place
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is below 64")]
const fn slot_at(at_ms: u64, level: usize) -> usize {
    ((at_ms >> (SLOT_BITS as usize * level)) % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_slot_is_opened_in_as_many_calls_as_its_timers_need() {
        let mut wheel = TimerWheel::new(Instant::from_ms(0), 32);
        for number in 0..1_000u64 {
            wheel.insert(Instant::from_ms(5_000 + number), number);
        }
        let now = Instant::from_ms(5_999);
        let mut due = Vec::new();
        for call in 0.. {
            let mut moves_left = 10;
            let timer = wheel.pop_due(now, &mut moves_left);
            due.extend(timer);
            wheel.check();
            if timer.is_none() && moves_left > 0 {
                break;
            }
            assert!(call < 2_000);
            assert!(wheel.next_deadline().is_none_or(|deadline| deadline <= now));
        }
        due.sort_unstable();
        assert_eq!(due, (0..1_000).collect::<Vec<_>>());
    }

    fn drain(wheel: &mut TimerWheel<u64>, now: u64) -> Vec<u64> {
        let mut due = Vec::new();
        while let Some(what) = wheel.pop_due(Instant::from_ms(now), &mut u32::MAX.clone()) {
            due.push(what);
        }
        due.sort_unstable();
        due
    }

    #[test]
    fn a_timer_is_due_at_its_deadline_and_not_before_on_every_level() {
        for start in [0u64, 63, 64, 4_095, 1_234_567] {
            for distance in [0u64, 1, 63, 64, 65, 4_095, 4_096, 262_144, 99_999_999] {
                let mut wheel = TimerWheel::new(Instant::from_ms(start), 32);
                wheel.insert(Instant::from_ms(start + distance), distance);
                if distance > 0 {
                    assert_eq!(drain(&mut wheel, start + distance - 1), [0u64; 0], "{start}+{distance}");
                }
                assert!(wheel.next_deadline().unwrap() <= Instant::from_ms(start + distance));
                assert_eq!(drain(&mut wheel, start + distance), [distance], "{start}+{distance}");
                assert_eq!(wheel.next_deadline(), None);
            }
        }
    }

    #[test]
    fn a_deadline_beyond_the_horizon_waits_and_comes() {
        let mut wheel = TimerWheel::new(Instant::from_ms(5), 32);
        let far = HORIZON_MS * 3 + 77;
        wheel.insert(Instant::from_ms(far), 1);
        assert_eq!(drain(&mut wheel, far - 1), [0u64; 0]);
        assert_eq!(drain(&mut wheel, far), [1]);
    }

    #[test]
    fn cancelled_timers_never_come_and_a_second_cancel_says_so() {
        let mut wheel = TimerWheel::new(Instant::from_ms(0), 32);
        let timers: Vec<_> = (0..200u64).map(|ms| wheel.insert(Instant::from_ms(ms * 7), ms)).collect();
        for timer in timers.iter().step_by(2) {
            assert!(wheel.cancel(*timer));
            assert!(!wheel.cancel(*timer));
        }
        let expected: Vec<u64> = (0..200).filter(|ms| ms % 2 == 1).collect();
        assert_eq!(drain(&mut wheel, 10_000), expected);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn a_thousand_timers_come_in_their_windows_whatever_the_steps() {
        let mut wheel = TimerWheel::new(Instant::from_ms(1_000), 32);
        let mut state = 1u64;
        let mut deadlines = Vec::new();
        for _ in 0..1_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let deadline = 1_000 + (state >> 40);
            deadlines.push(deadline);
            wheel.insert(Instant::from_ms(deadline), deadline);
        }
        deadlines.sort_unstable();
        let mut now = 1_000;
        let mut seen = Vec::new();
        while wheel.len() > 0 {
            now += 97_531;
            for deadline in drain(&mut wheel, now) {
                assert!(deadline <= now && deadline + 97_531 > now);
                seen.push(deadline);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, deadlines);
    }
}
