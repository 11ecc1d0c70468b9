//! The operator's signals, as values on a channel that the main thread waits on.
//! Does nothing itself, but for the second interrupt: whoever asks twice is not made to wait.

#[cfg(unix)]
#[path = "unix.rs"]
mod system;
#[cfg(windows)]
#[path = "windows.rs"]
mod system;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::StartupError;

/// Signals that wait for the main thread, the last place kept for a stop; one more says nothing new.
const WAITING_MAX: usize = 8;

/// The exit code of a process that an interrupt ended: 128 and the number of SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT or SIGTERM; on Windows Ctrl-C, or the end of the console, the session or the system: stop cleanly.
    Stop,
    /// SIGUSR1; on Windows Ctrl-Break: print statistics now.
    Statistics,
}

/// Listens for signals from now on; their default effects end here.
///
/// # Errors
/// If the system refuses the handlers or the thread.
pub(crate) fn listen() -> Result<Receiver<Signal>, StartupError> {
    let (sender, receiver) = bounded(WAITING_MAX);
    system::listen(SignalSender { sender })?;
    Ok(receiver)
}

/// The end of the channel that the signals go into.
struct SignalSender {
    sender: Sender<Signal>,
}

impl SignalSender {
    /// A stop must not be lost behind a burst of requests for statistics, nor keep its thread from hearing the second
    /// one: the room it needs is its own.
    fn send(&self, signal: Signal) {
        let room = if signal == Signal::Stop { WAITING_MAX } else { WAITING_MAX - 1 };
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
        sender.send(Signal::Stop);
        assert_eq!(receiver.len(), WAITING_MAX);
        assert_eq!(receiver.iter().nth(WAITING_MAX - 1), Some(Signal::Stop));
    }
}
