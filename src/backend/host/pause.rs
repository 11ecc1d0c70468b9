//! Pauses of a shard: the process was stopped, the machine was suspended, or a turn took too long. Bytes that
//! peers sent meanwhile lie in their sockets, so they are read before anything is judged to be late.
//!
//! Invariant: catching up ends, whatever the peers send and however long the turns are. Time is an argument.

use std::cell::Cell;

use engine::Instant;

/// Delay of a turn, or length of one, that counts as a pause.
pub(super) const PAUSE_MS: u64 = 500;
/// Time between two looks. The shard sleeps meanwhile, so that its runtime looks at the sockets, and threads that receive
/// get their turn.
const LOOK_MS: u64 = 20;
/// A shard that has caught up heard nothing between so many looks. One is not enough, because the system may let a busy
/// thread wait for longer than the time between two.
const QUIET_LOOKS: u32 = 3;
/// Other shards are paused as well, and may have to hand a CONNECT over.
const CATCH_UP_MS_MIN: u64 = 250;
/// Bound of catching up, for peers that never stop sending.
const CATCH_UP_MS_MAX: u64 = 2_000;
/// Further pauses while it catches up, each of which begins that time anew. A shard whose every turn is too long has to
/// serve its timers in the end.
const RESTARTS_MAX: u32 = 3;
/// Between two lines in the log.
const LOG_INTERVAL_MS: u64 = 60_000;

/// The news about a pause, to be told to the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// The shard was paused.
    Paused {
        /// By that many milliseconds.
        late_ms: u64,
        was_suspended: bool,
        /// Whether the log should say so: at most once a minute.
        is_logged: bool,
    },
    /// It has read what came meanwhile.
    CaughtUp,
}

/// **Lives on:** the shard. **Sees:** the times of its turns, and how often it received or accepted.
#[derive(Debug, Default)]
pub(super) struct PauseWatch {
    /// The moment at which this turn had to begin at the latest.
    planned: Cell<Option<Instant>>,
    began: Cell<Instant>,
    /// Receives and accepted connections so far.
    heard_count: Cell<u64>,
    suspended_ms: Cell<u64>,
    catching_up: Cell<Option<CatchingUp>>,
    logged: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, Debug)]
struct CatchingUp {
    since: Instant,
    looked: Instant,
    heard_count: u64,
    quiet_looks: u32,
    restarts: u32,
}

impl PauseWatch {
    /// A turn begins.
    pub(super) fn begin_turn(&self, now: Instant) {
        self.began.set(now);
    }

    /// Something was received or accepted.
    pub(super) fn hear(&self) {
        self.heard_count.set(self.heard_count.get() + 1);
    }

    /// How late this turn began, or how long it has taken, in milliseconds.
    pub(super) fn late_ms(&self, now: Instant) -> u64 {
        let late_ms = self.planned.get().map_or(0, |planned| planned.ms_until(self.began.get()));
        late_ms.max(self.began.get().ms_until(now))
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.catching_up.get().is_some()
    }

    /// Looks for a pause before timers are served, and for the end of catching up. `suspended_ms` is the time of all
    /// suspensions so far.
    pub(super) fn look(&self, now: Instant, suspended_ms: u64) -> Option<News> {
        let late_ms = self.late_ms(now);
        let was_suspended = self.suspended_ms.get() + PAUSE_MS < suspended_ms;
        if let Some(state) = self.catching_up.get().filter(|_| !was_suspended) {
            if late_ms > PAUSE_MS && state.restarts < RESTARTS_MAX {
                self.begin_catching_up(now, state.restarts + 1);
                return None;
            }
            return self.has_caught_up(now, state).then_some(News::CaughtUp);
        }
        if late_ms <= PAUSE_MS && !was_suspended {
            return None;
        }
        self.suspended_ms.set(suspended_ms);
        self.begin_catching_up(now, 0);
        let is_logged = self.logged.get().is_none_or(|logged| logged.ms_until(now) >= LOG_INTERVAL_MS);
        if is_logged {
            self.logged.set(Some(now));
        }
        Some(News::Paused { late_ms, was_suspended, is_logged })
    }

    /// A turn ends, and the shard has to wake at `due`. Returns when it has to wake indeed: earlier while it catches up.
    pub(super) fn end_turn(&self, due: Option<Instant>) -> Option<Instant> {
        let look = self.catching_up.get().map(|catching_up| catching_up.looked.plus_ms(LOOK_MS));
        let wake = [due, look].into_iter().flatten().min();
        // A wake that is already due counts from the start of this turn: its end would hide a pause between the two.
        self.planned.set(wake.map(|wake| wake.max(self.began.get())));
        wake
    }

    fn begin_catching_up(&self, now: Instant, restarts: u32) {
        let heard_count = self.heard_count.get();
        let state = CatchingUp { since: now, looked: now, heard_count, quiet_looks: 0, restarts };
        self.catching_up.set(Some(state));
    }

    fn has_caught_up(&self, now: Instant, mut state: CatchingUp) -> bool {
        let heard_count = self.heard_count.get();
        if state.heard_count != heard_count {
            (state.heard_count, state.looked, state.quiet_looks) = (heard_count, now, 0);
        } else if state.looked.ms_until(now) >= LOOK_MS {
            (state.looked, state.quiet_looks) = (now, state.quiet_looks + 1);
        }
        let time_ms = state.since.ms_until(now);
        let is_quiet = state.quiet_looks >= QUIET_LOOKS && time_ms >= CATCH_UP_MS_MIN;
        let is_over = is_quiet || time_ms >= CATCH_UP_MS_MAX;
        self.catching_up.set((!is_over).then_some(state));
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_ms(ms)
    }

    /// One turn, which hears something or not, and its news.
    fn turn(watch: &PauseWatch, from_ms: u64, to_ms: u64, hears: bool) -> Option<News> {
        watch.begin_turn(at(from_ms));
        if hears {
            watch.hear();
        }
        watch.look(at(to_ms), 0)
    }

    fn is_pause(news: Option<News>) -> bool {
        matches!(news, Some(News::Paused { was_suspended: false, .. }))
    }

    #[test]
    fn only_more_than_half_a_second_is_a_pause() {
        for (late_ms, expected) in [(0, false), (500, false), (501, true), (20_000, true)] {
            let watch = PauseWatch::default();
            assert_eq!(turn(&watch, 1_000, 1_000, false), None);
            assert_eq!(watch.end_turn(Some(at(3_000))), Some(at(3_000)));
            assert_eq!(
                is_pause(turn(&watch, 3_000 + late_ms, 3_000 + late_ms, false)),
                expected,
                "late {late_ms}"
            );
            // A long turn is one as well, and a long sleep without a deadline is none.
            let watch = PauseWatch::default();
            assert_eq!(watch.end_turn(None), None);
            assert_eq!(is_pause(turn(&watch, 100_000, 100_000 + late_ms, false)), expected, "long {late_ms}");
        }
    }

    #[test]
    fn a_pause_behind_the_timers_of_a_turn_is_one_for_the_next_turn() {
        let watch = PauseWatch::default();
        assert_eq!(turn(&watch, 1_000, 1_000, true), None);
        // Stopped here until 9000.
        assert_eq!(watch.end_turn(Some(at(3_000))), Some(at(3_000)));
        assert!(is_pause(turn(&watch, 9_001, 9_001, false)));
    }

    /// A deadline of 0 says that work is left, and not that the shard is late.
    #[test]
    fn work_that_is_left_is_no_pause() {
        let watch = PauseWatch::default();
        watch.begin_turn(at(50_000));
        assert_eq!(watch.end_turn(Some(at(0))), Some(at(0)));
        assert_eq!(turn(&watch, 50_001, 50_002, true), None);
    }

    #[test]
    fn it_has_caught_up_after_a_quiet_time() {
        let watch = PauseWatch::default();
        assert!(is_pause(turn(&watch, 0, 1_000, true)));
        assert_eq!(watch.end_turn(None), Some(at(1_020)), "it looks again though nothing is due");
        for ms in (1_010..=1_400).step_by(10) {
            assert_eq!(turn(&watch, ms, ms, true), None, "bytes still come");
        }
        for ms in [1_419, 1_420, 1_421, 1_440, 1_459] {
            assert_eq!(turn(&watch, ms, ms, false), None, "{ms}");
        }
        assert_eq!(watch.end_turn(None), Some(at(1_460)));
        assert_eq!(turn(&watch, 1_460, 1_460, false), Some(News::CaughtUp));
        assert_eq!(watch.end_turn(None), None);
        assert_eq!(turn(&watch, 9_000, 9_000, false), None);
    }

    #[test]
    fn a_pause_while_it_catches_up_begins_anew() {
        let watch = PauseWatch::default();
        assert!(is_pause(turn(&watch, 0, 1_000, true)));
        assert_eq!(watch.end_turn(None), Some(at(1_020)));
        assert_eq!(turn(&watch, 30_000, 30_000, false), None);
        assert_eq!(watch.end_turn(None), Some(at(30_020)));
        for ms in (30_020..30_250).step_by(10) {
            assert_eq!(turn(&watch, ms, ms, false), None);
        }
        assert_eq!(turn(&watch, 30_250, 30_250, false), Some(News::CaughtUp));
    }

    /// The thread did not run for a while, and its runtime has not looked at the sockets since.
    #[test]
    fn time_without_a_look_is_not_quiet() {
        let watch = PauseWatch::default();
        assert!(is_pause(turn(&watch, 0, 1_000, true)));
        assert_eq!(turn(&watch, 1_400, 1_400, false), None);
        assert_eq!(turn(&watch, 1_420, 1_420, true), None);
        assert_eq!(turn(&watch, 1_440, 1_440, false), None);
        assert_eq!(turn(&watch, 1_460, 1_460, false), None);
        assert_eq!(turn(&watch, 1_480, 1_480, false), Some(News::CaughtUp));
    }

    #[test]
    fn peers_that_never_stop_and_turns_that_are_always_long_do_not_hold_it_up() {
        let watch = PauseWatch::default();
        let (mut pauses, mut ends, mut logged) = (0, 0, 0);
        for second in 0..120_u64 {
            match turn(&watch, second * 1_000, second * 1_000 + 999, true) {
                Some(News::Paused { is_logged, .. }) => {
                    pauses += 1;
                    logged += u32::from(is_logged);
                }
                Some(News::CaughtUp) => ends += 1,
                None => {}
            }
        }
        // A pause, three further ones, two seconds, and the turn in which they end.
        assert_eq!((pauses, ends, logged), (20, 20, 2));
    }

    #[test]
    fn a_suspension_is_noticed_even_if_the_shard_is_not_late() {
        let watch = PauseWatch::default();
        watch.begin_turn(at(10_000));
        let news = watch.look(at(10_000), 3_600_000);
        assert_eq!(news, Some(News::Paused { late_ms: 0, was_suspended: true, is_logged: true }));
        let watch = PauseWatch::default();
        watch.suspended_ms.set(3_600_000);
        watch.begin_turn(at(10_000));
        assert_eq!(watch.look(at(10_001), 3_600_000), None);
    }
}
