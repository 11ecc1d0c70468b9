//! The controlling terminal of the process. When a terminal is closed, the system sends SIGHUP to the processes that
//! were started in it. The same signal asks a service to reload its configuration, so the receiver has to know which
//! of the two is meant.

use std::fs::File;
use std::thread;
use std::time::Duration;

use tracing::info;

/// The device that stands for the controlling terminal of whichever process opens it.
const DEVICE: &str = "/dev/tty";

/// Number of times that [`Terminal::has_closed`] looks, and the pause between two of them. A shell passes SIGHUP on while the
/// kernel still takes the terminal away from its processes one by one.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(25);

/// Number of calls of [`Terminal::look`] in a row without a terminal, after which no signal of its end can be on its way.
const ABSENCES: u32 = 3;

/// The terminal whose end is the end of the process.
#[derive(Debug)]
pub(crate) struct Terminal {
    is_bound: bool,
    absences: u32,
}

impl Terminal {
    /// The terminal that the process was started in. There is none for a service, and none for a process that is to outlive its
    /// terminal: `nohup` starts it with SIGHUP ignored. To be called before the handlers of signals are installed.
    pub(crate) fn of_process() -> Self {
        Self { is_bound: exists() && !outlives_it(), absences: 0 }
    }

    /// Looks for the terminal, each second. A process that was not sent SIGHUP with its end, such as a job that the shell disowned, goes
    /// on without it; a later SIGHUP has another meaning.
    pub(crate) fn look(&mut self) {
        if !self.is_bound {
            return;
        }
        self.absences = if exists() { 0 } else { self.absences + 1 };
        if self.absences == ABSENCES {
            self.is_bound = false;
            info!("the terminal was closed, and the broker goes on without it");
        }
    }

    /// Whether the process was started in a terminal that has been closed since.
    pub(crate) fn has_closed(&self) -> bool {
        self.is_bound
            && (0..LOOKS).any(|look| {
                if look > 0 {
                    thread::sleep(PAUSE);
                }
                !exists()
            })
    }
}

/// Opening the device fails for a process that has no terminal, or has it no longer. Windows tells the end of a console in another
/// way.
fn exists() -> bool {
    cfg!(unix) && File::open(DEVICE).is_ok()
}

/// Whether the process was started to ignore SIGHUP.
#[cfg(target_os = "linux")]
fn outlives_it() -> bool {
    // A process that is started to ignore SIGHUP has the first bit set.
    let ignored = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    match std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(ignored) {
        Some(mask) => mask & 1 == 1,
        None => no_stream_is_a_terminal(),
    }
}

/// Whether the process was started to ignore SIGHUP. The system tells only by a call that is unsafe, so this is judged by the
/// streams: `nohup` leaves none of them on the terminal.
#[cfg(not(target_os = "linux"))]
fn outlives_it() -> bool {
    no_stream_is_a_terminal()
}

fn no_stream_is_a_terminal() -> bool {
    use std::io::{IsTerminal, stderr, stdin, stdout};
    !(stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal())
}
