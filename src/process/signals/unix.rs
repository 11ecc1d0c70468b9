//! Unix: a thread that receives SIGINT, SIGTERM and SIGUSR1.

use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::{EXIT_INTERRUPTED, Signal, SignalSender};
use crate::error::StartupError;

pub(super) fn listen(sender: SignalSender) -> Result<(), StartupError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])
        .map_err(|error| StartupError::system("listen for signals", error))?;
    let wait = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let signal = match signal {
                SIGINT if stopping => process::exit(EXIT_INTERRUPTED),
                SIGINT | SIGTERM => Signal::Stop,
                _ => Signal::Statistics,
            };
            stopping |= signal == Signal::Stop;
            sender.send(signal);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map_err(|error| StartupError::system("start the thread that waits for signals", error))?;
    Ok(())
}
