//! SIGINT, SIGTERM and SIGUSR1, heard by a thread that does nothing else.
//! Knows the meaning of each, and nothing of what follows.

use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::{Asked, EXIT_INTERRUPTED, Signal};
use crate::error::Trouble;

pub(super) fn listen(asked: Asked) -> Result<(), Trouble> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])
        .map_err(|error| Trouble::system("listen for signals", error))?;
    let wait = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let signal = match signal {
                SIGINT if stopping => process::exit(EXIT_INTERRUPTED),
                SIGINT | SIGTERM => Signal::Stop,
                _ => Signal::Statistics,
            };
            stopping |= signal == Signal::Stop;
            asked.tell(signal);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map_err(|error| Trouble::system("start the thread that waits for signals", error))?;
    Ok(())
}
