//! What systemd is told: ready, alive, stopping. Says nothing where no service manager listens.
//! Decides nothing: whether the broker is alive is for the caller to know.

use std::time::Duration;

/// The broker serves; `status` is one line for `systemctl status`.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux has systemd"))]
pub(crate) fn ready(status: &str) {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux has systemd"))]
pub(crate) fn status(status: &str) {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Status(status)]);
}

/// Every shard turned since this was last said.
pub(crate) fn watchdog() {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Watchdog]);
}

/// The broker stops from here on.
pub(crate) fn stopping() {
    #[cfg(target_os = "linux")]
    send(&[sd_notify::NotifyState::Stopping, sd_notify::NotifyState::Status("stopping")]);
}

/// How often [`watchdog`] is to be said: half of the time after which systemd gives the process up. `None` where
/// nobody watches.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    let watchdog = sd_notify::watchdog_enabled();
    #[cfg(not(target_os = "linux"))]
    let watchdog: Option<Duration> = None;
    // A tick of no length at all would be always due.
    watchdog.map(|watchdog| (watchdog / 2).max(Duration::from_millis(1)))
}

#[cfg(target_os = "linux")]
fn send(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be notified");
    }
}
