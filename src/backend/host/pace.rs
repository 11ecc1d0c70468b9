//! Whether a shard that has done its work rests a moment before it looks for more. Waking for each packet that comes alone
//! costs time of its own; where they come faster than the rest is long, several are found at its end, and one wake-up
//! and one pass through the driver serve them all, as a network card moderates its interrupts.
//!
//! A peer that sends only after it was answered comes no faster for being waited for, so resting is tried and judged:
//! turns without a rest tell how fast packets come by themselves, and where fewer come while the shard rests, it stops, and
//! is slower each time to try again.
//! Knows no clock and no packet: it is told when a turn ended and how many arrived in it.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Turns that are watched before resting is tried, and watched again after it was worth it.
const WATCHED_MIN: u32 = 16;
/// The most turns watched after it was not.
const WATCHED_MAX: u32 = 1 << 15;
/// Rests before the first verdict, and after verdicts that were good.
const RESTS_MIN: u32 = 8;
const RESTS_MAX: u32 = 256;
/// Resting goes on while at least this share of what came without it still comes.
const KEPT_SHARE: f64 = 0.75;
/// A longer pause between two turns says nothing about either way of waiting.
const PAUSE: Duration = Duration::from_millis(10);

/// **Lives on:** the shard.
#[derive(Debug)]
pub(super) struct Pace {
    /// Zero never rests.
    rest: Duration,
    /// Packets and lane items since the last turn ended.
    arrived: Cell<u32>,
    phase: Cell<Phase>,
    /// How many turns the next phase of either kind takes.
    watch_turns: Cell<u32>,
    rest_turns: Cell<u32>,
}

/// A number of turns that are counted together.
#[derive(Clone, Copy, Debug, Default)]
struct Phase {
    /// In packets a second, what came while the shard did not rest; `None` while that is being found out.
    unhindered: Option<f64>,
    began: Option<Instant>,
    last: Option<Instant>,
    turns: u32,
    arrivals: u32,
}

impl Phase {
    fn rate(&self, now: Instant) -> f64 {
        let took = self.began.map_or(Duration::ZERO, |began| now.duration_since(began));
        f64::from(self.arrivals) / took.as_secs_f64().max(1e-9)
    }
}

impl Pace {
    pub(super) fn new(rest: Duration) -> Self {
        Self {
            rest,
            arrived: Cell::new(0),
            phase: Cell::default(),
            watch_turns: Cell::new(WATCHED_MIN),
            rest_turns: Cell::new(RESTS_MIN),
        }
    }

    /// Counts a packet's bytes, or an item of a lane.
    pub(super) fn arrived(&self) {
        self.arrived.set(self.arrived.get().saturating_add(1));
    }

    /// A turn has ended. Returns how long to rest before looking for more, if at all.
    pub(super) fn turn_ended(&self, now: Instant) -> Option<Duration> {
        let arrived = self.arrived.replace(0);
        if self.rest.is_zero() {
            return None;
        }
        let mut phase = self.phase.get();
        let paused = phase.last.is_none_or(|last| now.duration_since(last) > PAUSE);
        if paused {
            // Begins with the end of this turn: what came before it took no time that is known.
            phase = Phase { began: Some(now), ..Phase::default() };
        } else {
            phase.turns += 1;
            phase.arrivals = phase.arrivals.saturating_add(arrived);
            phase = self.judged(phase, now);
        }
        phase.last = Some(now);
        self.phase.set(phase);
        phase.unhindered.map(|_| self.rest)
    }

    /// The same phase, or the one that follows it.
    fn judged(&self, phase: Phase, now: Instant) -> Phase {
        let next = Phase { began: Some(now), ..Phase::default() };
        let rate = phase.rate(now);
        match phase.unhindered {
            None if phase.turns < self.watch_turns.get() => phase,
            None => {
                let took = phase.began.map_or(Duration::ZERO, |began| now.duration_since(began));
                // Longer turns gather enough by themselves.
                let turns_are_short = took < self.rest * phase.turns;
                let several_come = rate * self.rest.as_secs_f64() >= 1.5;
                Phase { unhindered: (turns_are_short && several_come).then_some(rate), ..next }
            }
            Some(_) if phase.turns < self.rest_turns.get() => phase,
            Some(unhindered) if rate >= KEPT_SHARE * unhindered => {
                self.rest_turns.set((self.rest_turns.get() * 2).min(RESTS_MAX));
                self.watch_turns.set(WATCHED_MIN);
                next
            }
            Some(_) => {
                self.rest_turns.set(RESTS_MIN);
                self.watch_turns.set((self.watch_turns.get() * 2).min(WATCHED_MAX));
                next
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const REST: Duration = Duration::from_micros(100);

    /// Runs turns for a second of invented time; `arrivals` is told how long a turn's packets had to come and says how
    /// many did. Returns the share of turns that ended with a rest, and how many arrived.
    fn run(pace: &Pace, turn: Duration, mut arrivals: impl FnMut(Duration) -> u32) -> (f64, u32) {
        let start = clock::read();
        let mut now = start;
        let mut since = now;
        let (mut turns, mut rests, mut total) = (0, 0, 0);
        while now.duration_since(start) < Duration::from_secs(1) {
            let mut arrived = 0;
            while arrived == 0 {
                now += turn;
                arrived = arrivals(now.duration_since(since));
                since = now;
            }
            (0..arrived).for_each(|_| pace.arrived());
            total += arrived;
            turns += 1;
            if let Some(rest) = pace.turn_ended(now) {
                now += rest;
                rests += 1;
            }
        }
        (f64::from(rests) / f64::from(turns), total)
    }

    /// Packets that come every so often, whatever the shard does.
    fn every(interval: Duration) -> impl FnMut(Duration) -> u32 {
        let mut owed = Duration::ZERO;
        move |time| {
            owed += time;
            let come = u32::try_from(owed.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
            owed -= interval * come;
            come
        }
    }

    #[test]
    fn rests_where_packets_come_by_themselves() {
        let pace = Pace::new(REST);
        // 40,000 a second, and a turn takes 5 µs.
        let (rested, arrived) = run(&pace, Duration::from_micros(5), every(Duration::from_micros(25)));
        assert!(rested > 0.8, "rested after {rested} of all turns");
        assert!(arrived > 39_000, "{arrived}");
    }

    #[test]
    fn stops_where_the_peer_waits_for_the_answer() {
        let pace = Pace::new(REST);
        // One packet is there in every turn, and no more however long it waits.
        let (rested, arrived) = run(&pace, Duration::from_micros(20), |_| 1);
        assert!(rested < 0.02, "rested after {rested} of all turns");
        assert!(arrived > 45_000, "{arrived} of 50,000");
    }

    #[test]
    fn never_rests_for_what_is_slower_than_a_rest() {
        let pace = Pace::new(REST);
        let (rested, _) = run(&pace, Duration::from_micros(5), every(Duration::from_micros(90)));
        assert!(rested < 0.01, "rested after {rested} of all turns");
    }

    #[test]
    fn never_rests_between_long_turns() {
        let pace = Pace::new(REST);
        let (rested, _) = run(&pace, Duration::from_micros(300), |_| 600);
        assert!(rested < 0.01, "rested after {rested} of all turns");
    }

    #[test]
    fn a_rest_of_nothing_is_none() {
        let pace = Pace::new(Duration::ZERO);
        let (rested, _) = run(&pace, Duration::from_micros(5), every(Duration::from_micros(5)));
        assert!(rested == 0.0);
    }

    #[test]
    fn begins_anew_after_a_pause() {
        let pace = Pace::new(REST);
        let (rested, _) = run(&pace, Duration::from_micros(5), every(Duration::from_micros(25)));
        assert!(rested > 0.8);
        // The next packet comes later than any test may have taken.
        let later = clock::read() + Duration::from_hours(1);
        pace.arrived();
        assert_eq!(pace.turn_ended(later), None);
    }
}
