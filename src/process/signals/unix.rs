//! Unix: a thread that receives SIGINT, SIGTERM, SIGUSR1 and SIGHUP.

use std::process;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::{EXIT_INTERRUPTED, Signal, SignalSender};
use crate::error::StartupError;

pub(super) fn listen(sender: SignalSender) -> Result<(), StartupError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP])
        .map_err(|error| StartupError::system("listen for signals", error))?;
    super::spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let signal = match signal {
                SIGINT if stopping => process::exit(EXIT_INTERRUPTED),
                SIGINT | SIGTERM => Signal::Stop,
                SIGHUP => Signal::HangUp,
                _ => Signal::Statistics,
            };
            stopping |= signal == Signal::Stop;
            sender.send(signal);
        }
    })
}
