//! The operator's signals, as values on a channel that the main thread waits on.
//! Does nothing itself, but for the second SIGINT: whoever asks twice is not made to wait.

use std::process;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::trouble::Trouble;

/// Signals that wait for the main thread, the last place kept for a stop; one more says nothing new.
const WAITING_MAX: usize = 8;

/// The exit code of a process that SIGINT ended: 128 and the signal's number.
const EXIT_INTERRUPTED: i32 = 130;

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT or SIGTERM: stop cleanly.
    Stop,
    /// SIGUSR1: print statistics now.
    Statistics,
}

/// Listens for signals from now on; their default effects end here.
///
/// # Errors
/// If the system refuses the handlers or the thread.
pub(crate) fn listen() -> Result<Receiver<Signal>, Trouble> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])
        .map_err(|error| Trouble::system("listen for signals", error))?;
    let (sender, receiver) = bounded(WAITING_MAX);
    let wait = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let asked = match signal {
                SIGINT if stopping => process::exit(EXIT_INTERRUPTED),
                SIGINT | SIGTERM => Signal::Stop,
                _ => Signal::Statistics,
            };
            stopping |= asked == Signal::Stop;
            // A stop must not be lost behind a burst of requests for statistics, nor keep this thread from
            // hearing the second one: the room it needs is its own.
            let room = if asked == Signal::Stop { WAITING_MAX } else { WAITING_MAX - 1 };
            if sender.len() < room {
                let _ = sender.try_send(asked);
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map_err(|error| Trouble::system("start the thread that waits for signals", error))?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sigusr1_asks_for_statistics() {
        let signals = listen().unwrap();
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        assert_eq!(signals.recv_timeout(Duration::from_secs(10)), Ok(Signal::Statistics));
    }
}
