//! Builds one monoio runtime with `io_uring` or epoll, in the same way as the broker's backend.

use std::io;

use clap::ValueEnum;
use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Submission queue entries. Every connection holds one poll, so a turn may submit thousands.
const SUBMISSION_ENTRIES: u32 = 4096;
/// Completion queue entries: a burst of completions larger than this takes the kernel's slow overflow list.
const COMPLETION_ENTRIES: u32 = 32_768;

const _: () = assert!(COMPLETION_ENTRIES >= 2 * SUBMISSION_ENTRIES);

/// Which I/O interface, and for `io_uring` with which set-up flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Io {
    /// `uring` if this system allows it, else `epoll`: plain `io_uring` costs more than either.
    Auto,
    /// `io_uring` with `COOP_TASKRUN` (Linux 5.19).
    Uring,
    /// `io_uring` without flags: every completion interrupts the thread.
    UringPlain,
    /// `io_uring` with `DEFER_TASKRUN` (Linux 6.1): measured only to show its hazard.
    UringDefer,
    /// epoll: monoio's `LegacyDriver`.
    Epoll,
}

/// A runtime on either driver; both have the timer.
pub(crate) type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// Builds a runtime on the calling thread; returns the interface that it uses.
///
/// # Errors
/// The system's refusal of the last candidate. A forbidden `io_uring` is `EPERM` (seccomp, `io_uring_disabled`) or
/// `ENOSYS` (no such kernel), unknown flags are `EINVAL`, a low locked-memory limit `ENOMEM` on old kernels.
pub(crate) fn build(io: Io) -> io::Result<(Runtime, Io)> {
    let candidates: &[Io] = match io {
        Io::Auto => &[Io::Uring, Io::Epoll],
        Io::Uring => &[Io::Uring],
        Io::UringPlain => &[Io::UringPlain],
        Io::UringDefer => &[Io::UringDefer],
        Io::Epoll => &[Io::Epoll],
    };
    let mut refusal = io::Error::from(io::ErrorKind::Unsupported);
    for candidate in candidates {
        match build_exactly(*candidate) {
            Ok(runtime) => return Ok((runtime, *candidate)),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn build_exactly(io: Io) -> io::Result<Runtime> {
    if io == Io::Epoll {
        // `with_entries` is here the most events one `epoll_wait` returns.
        let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(SUBMISSION_ENTRIES).enable_timer();
        return Ok(builder.build()?.into());
    }
    let mut rings = io_uring::IoUring::builder();
    rings.setup_clamp().setup_cqsize(COMPLETION_ENTRIES);
    match io {
        Io::Uring => {
            rings.setup_coop_taskrun();
        }
        Io::UringDefer => {
            rings.setup_single_issuer().setup_defer_taskrun();
        }
        Io::Auto | Io::UringPlain | Io::Epoll => {}
    }
    // monoio ignores the result of `io_uring_enter` and would spin. A filter that forbids it is detected here.
    rings.build(2)?.submit()?;
    let builder = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(rings)
        .with_entries(SUBMISSION_ENTRIES)
        .enable_timer();
    let runtime = builder.build()?;
    // On a kernel without one of monoio's operations the ring is built, but every accept fails.
    if !monoio::utils::detect_uring() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "io_uring lacks operations that monoio needs",
        ));
    }
    Ok(runtime.into())
}
