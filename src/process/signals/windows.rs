//! Windows: a thread that receives Ctrl-C, Ctrl-Break and the end of the console, the session or the system.

use std::io;
use std::process;

use tokio::runtime::Builder;
use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown};

use super::{EXIT_INTERRUPTED, Signal, SignalSender};
use crate::error::StartupError;

pub(super) fn listen(sender: SignalSender) -> Result<(), StartupError> {
    let refused = |error| StartupError::system("listen for Ctrl-C", error);
    let runtime = Builder::new_current_thread().build().map_err(refused)?;
    // The handlers are installed before this function returns, not only when the thread runs.
    let mut console = Console::take().map_err(refused)?;
    super::spawn(move || {
        runtime.block_on(async {
            let mut stopping = false;
            loop {
                // Closing a console, logging off and shutting down leave the process a few seconds and then end it.
                let (signal, interrupts) = tokio::select! {
                    _ = console.interrupt.recv() => (Signal::Stop, true),
                    _ = console.statistics.recv() => (Signal::Statistics, false),
                    _ = console.close.recv() => (Signal::Stop, false),
                    _ = console.log_off.recv() => (Signal::Stop, false),
                    _ = console.shut_down.recv() => (Signal::Stop, false),
                };
                if interrupts && stopping {
                    process::exit(EXIT_INTERRUPTED);
                }
                stopping |= signal == Signal::Stop;
                sender.send(signal);
            }
        });
    })
}

/// The events of a console.
struct Console {
    interrupt: tokio::signal::windows::CtrlC,
    statistics: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
    log_off: tokio::signal::windows::CtrlLogoff,
    shut_down: tokio::signal::windows::CtrlShutdown,
}

impl Console {
    fn take() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            statistics: ctrl_break()?,
            close: ctrl_close()?,
            log_off: ctrl_logoff()?,
            shut_down: ctrl_shutdown()?,
        })
    }
}
