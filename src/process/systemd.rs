//! Notifications to systemd: ready, status, watchdog and stopping. They do nothing without a service manager.
//! The caller decides whether the broker is alive.

use std::time::Duration;

/// The broker serves; `status` is one line for `systemctl status`.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux has systemd"))]
pub(crate) fn ready(status: &str) {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
}

/// The start takes longer, because of a long log: systemd waits at least this long from now, and shows `status`.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux has systemd"))]
pub(crate) fn still_starting(longer: Duration, status: &str) {
    #[cfg(target_os = "linux")]
    {
        let microseconds = u32::try_from(longer.as_micros()).unwrap_or(u32::MAX);
        send(&[
            sd_notify::NotifyState::ExtendTimeoutUsec(microseconds),
            sd_notify::NotifyState::Status(status),
        ]);
    }
}

/// One line for `systemctl status`.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux has systemd"))]
pub(crate) fn status(status: &str) {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Status(status)]);
}

/// Every shard has turned since the last notification.
pub(crate) fn watchdog() {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Watchdog]);
}

/// The broker is stopping.
pub(crate) fn stopping() {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Stopping, sd_notify::NotifyState::Status("stopping")]);
}

/// Interval for [`watchdog`]: half of the time after which systemd considers the process dead. `None` without a
/// watchdog.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    let watchdog = sd_notify::watchdog_enabled();
    #[cfg(not(target_os = "linux"))]
    let watchdog: Option<Duration> = None;
    // An interval of zero would keep the control plane busy.
    watchdog.map(|watchdog| (watchdog / 2).max(Duration::from_millis(1)))
}

#[cfg(target_os = "linux")]
fn send(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be notified");
    }
}
