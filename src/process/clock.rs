//! The only module that reads a clock, so that time is an argument everywhere else. It reads monotonic time: shards
//! need durations only, and the log formats its own time. Only statements that name a moment, such as tokens and bans, are compared with the wall clock.
//!
//! Engines are told a time that goes on while the machine is suspended, because a session expires and a will is due
//! after real seconds. No change of the wall clock moves it. The timers of the runtimes stand still in a suspension, so
//! the time to sleep is computed anew in every turn.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since the start of the process, in the units of the engines; with a log, the time since the first start, of which it goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The time of the engines at the origin, in milliseconds.
    began_at_ms: u64,
    /// In time that stands still while the machine is suspended, except on Windows.
    origin: Instant,
    /// The same moment in time that goes on.
    continuous_origin: Duration,
}

impl Clock {
    /// A clock whose origin is now.
    pub(crate) fn start() -> Self {
        let origin = read();
        Self { began_at_ms: 0, origin, continuous_origin: continuous(origin) }
    }

    /// A clock whose origin is now, which is this time for the engines.
    pub(crate) fn start_at(began_at_ms: u64) -> Self {
        Self { began_at_ms, ..Self::start() }
    }

    /// The current time of the engine.
    pub(crate) fn now(self) -> engine::Instant {
        engine::Instant::from_ms(self.began_at_ms.saturating_add(whole_ms(self.elapsed())))
    }

    /// The time of the engine that is these microseconds after the origin.
    pub(crate) fn at_us(self, now_us: u64) -> engine::Instant {
        engine::Instant::from_ms(self.began_at_ms.saturating_add(now_us / 1_000))
    }

    /// Microseconds since the origin, for the pace of a log and the times of turns.
    pub(crate) fn now_us(self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The system time of an engine's moment; one that the system cannot represent becomes one in a year.
    pub(crate) fn system(self, moment: engine::Instant) -> Instant {
        system_after(read(), self.now(), moment)
    }

    /// How long the machine was suspended since the start, in milliseconds; always 0 on Windows, whose one clock goes on.
    pub(crate) fn suspended_ms(self) -> u64 {
        // In this order, so that the time between the two readings does not count.
        let awake = read().duration_since(self.origin);
        whole_ms(self.elapsed().saturating_sub(awake))
    }

    fn elapsed(self) -> Duration {
        continuous(self.origin).saturating_sub(self.continuous_origin)
    }
}

/// The system time of an engine's moment, if it is `now` for the engine and `at` for the system.
fn system_after(at: Instant, now: engine::Instant, moment: engine::Instant) -> Instant {
    const YEAR: Duration = Duration::from_hours(24 * 365);
    at.checked_add(Duration::from_millis(now.ms_until(moment))).unwrap_or_else(|| at + YEAR)
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Time that goes on while the machine is suspended.
#[cfg(unix)]
fn continuous(_: Instant) -> Duration {
    // CLOCK_MONOTONIC stands still in a suspension on Linux, and goes on on macOS.
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Time that goes on while the machine is suspended: the performance counter of Windows does.
#[cfg(not(unix))]
fn continuous(origin: Instant) -> Duration {
    read().duration_since(origin)
}

/// The time of the wall clock in milliseconds since 1970, to know how long the broker did not run; 0 before.
#[expect(clippy::disallowed_methods, reason = "this is the only place that reads the clock")]
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_ms)
}

/// The time of the wall clock in seconds since 1970, for statements of others that name a moment; 0 before.
pub(crate) fn unix_s() -> u64 {
    unix_us() / 1_000_000
}

/// The same in microseconds, for lists that an operator reads beside the log.
#[expect(clippy::disallowed_methods, reason = "this is the only place that reads the clock")]
pub(crate) fn unix_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// The system's monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the only place that reads the clock")]
pub(crate) fn read() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_passed_in_a_suspension_is_due_at_once() {
        let (at, moment) = (read(), engine::Instant::from_ms(60_000));
        assert_eq!(system_after(at, engine::Instant::from_ms(10_000), moment), at + Duration::from_secs(50));
        // An hour passed for the engine and none for the timers of the system.
        assert_eq!(system_after(at, engine::Instant::from_ms(3_610_000), moment), at);
        assert!(system_after(at, engine::Instant::default(), engine::Instant::from_ms(u64::MAX)) > at);
    }

    /// `/proc/uptime` is the one place that shows this clock without the call under test.
    #[test]
    #[cfg(target_os = "linux")]
    fn engines_are_told_the_time_since_boot() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
        };
        let hundredth = Duration::from_millis(10);
        let (before, now, after) = (uptime(), continuous(read()), uptime());
        assert!(before <= now + hundredth && now <= after + hundredth, "{before:?} {now:?} {after:?}");
    }

    #[test]
    fn a_machine_that_was_awake_was_not_suspended() {
        let clock = Clock::start();
        std::thread::sleep(Duration::from_millis(5));
        assert!(clock.now().as_ms() >= 5);
        assert!(clock.suspended_ms() < 1_000, "{}", clock.suspended_ms());
    }
}
