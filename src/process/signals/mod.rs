//! The signals of the operator, as values on a channel of the main thread. Only the second interrupt acts by itself:
//! it ends the process at once.

#[cfg(unix)]
#[path = "unix.rs"]
mod system;
#[cfg(windows)]
#[path = "windows.rs"]
mod system;

use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::StartupError;

/// Signals that wait for the main thread. The last slot is reserved for a stop, and the one before for the end of a terminal, which
/// may be one; further signals are redundant and dropped.
const WAITING_MAX: usize = 8;

/// Exit code of an interrupted process: 128 plus the number of SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// A request of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT or SIGTERM; on Windows Ctrl-C, or the end of the console, the session or the system: stop cleanly.
    Stop,
    /// SIGHUP: the terminal was closed, or the configuration is to be read again.
    #[cfg_attr(not(unix), expect(dead_code, reason = "Windows has no such signal"))]
    HangUp,
    /// SIGUSR1; on Windows Ctrl-Break: print statistics now.
    Statistics,
}

/// Installs the handlers, which replace the default effects of the signals.
///
/// # Errors
/// If the system refuses the handlers or the thread.
pub(crate) fn listen() -> Result<Receiver<Signal>, StartupError> {
    let (sender, receiver) = bounded(WAITING_MAX);
    system::listen(SignalSender { sender })?;
    Ok(receiver)
}

/// Starts the thread that runs `wait` until the process ends.
fn spawn(wait: impl FnOnce() + Send + 'static) -> Result<(), StartupError> {
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(|error| StartupError::system("start the thread that waits for signals", error))
}

/// The sending end of the channel.
struct SignalSender {
    sender: Sender<Signal>,
}

impl SignalSender {
    /// A stop has a reserved slot: it must not be lost behind a burst of statistics requests, and must not block the
    /// thread, which has to see a second interrupt.
    fn send(&self, signal: Signal) {
        let room = match signal {
            Signal::Stop => WAITING_MAX,
            Signal::HangUp => WAITING_MAX - 1,
            Signal::Statistics => WAITING_MAX - 2,
        };
        if self.sender.len() < room {
            let _ = self.sender.try_send(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn sigusr1_requests_statistics() {
        let signals = listen().unwrap();
        signal_hook::low_level::raise(signal_hook::consts::SIGUSR1).unwrap();
        assert_eq!(signals.recv_timeout(std::time::Duration::from_secs(10)), Ok(Signal::Statistics));
    }

    #[test]
    fn a_stop_has_room_behind_any_number_of_requests() {
        let (sender, receiver) = bounded(WAITING_MAX);
        let sender = SignalSender { sender };
        for _ in 0..2 * WAITING_MAX {
            sender.send(Signal::Statistics);
        }
        sender.send(Signal::HangUp);
        sender.send(Signal::HangUp);
        sender.send(Signal::Stop);
        let last: Vec<Signal> = receiver.try_iter().skip(WAITING_MAX - 2).collect();
        assert_eq!(last, [Signal::HangUp, Signal::Stop]);
    }
}
