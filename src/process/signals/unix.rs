//! Unix: a thread that receives SIGINT, SIGTERM, SIGUSR1 and SIGHUP.

use std::process;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tracing::info;

use super::{EXIT_INTERRUPTED, Signal, SignalSender};
use crate::error::StartupError;
use crate::process::terminal::Terminal;

pub(super) fn listen(sender: SignalSender) -> Result<(), StartupError> {
    // Asked before the handlers replace the disposition that the process inherited.
    let terminal = Terminal::of_process();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP])
        .map_err(|error| StartupError::system("listen for signals", error))?;
    super::spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let signal = match signal {
                SIGINT if stopping => process::exit(EXIT_INTERRUPTED),
                SIGINT | SIGTERM => Signal::Stop,
                SIGHUP if terminal.has_closed() => {
                    info!("the terminal was closed, so the broker stops; a service or `nohup` survives that");
                    Signal::Stop
                }
                SIGHUP => Signal::Reload,
                _ => Signal::Statistics,
            };
            stopping |= signal == Signal::Stop;
            sender.send(signal);
        }
    })
}
