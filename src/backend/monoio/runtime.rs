//! Builds the runtime of a shard: the best io_uring the system permits, else epoll; kqueue on macOS.
//! Knows no connection.

use std::io;

#[cfg(target_os = "linux")]
use monoio::IoUringDriver;
use monoio::time::TimeDriver;
use monoio::{FusionRuntime, LegacyDriver, RuntimeBuilder};

use crate::config::Io;
use crate::error::StartupError;

/// Submission queue entries. Every connection keeps one poll outstanding, so a turn may submit thousands.
const SUBMISSION_ENTRIES: u32 = 4_096;
/// Completion queue entries: a larger burst of completions takes the kernel's slow overflow list.
#[cfg(target_os = "linux")]
const COMPLETION_ENTRIES: u32 = 32_768;

#[cfg(target_os = "linux")]
const _: () = assert!(COMPLETION_ENTRIES >= 2 * SUBMISSION_ENTRIES);

#[cfg(not(target_os = "linux"))]
type Runtime = FusionRuntime<TimeDriver<LegacyDriver>>;
#[cfg(target_os = "linux")]
type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// A runtime and what it stands on.
pub(in crate::backend) struct Built {
    pub(super) runtime: Runtime,
    /// Never `Auto`.
    pub(in crate::backend) io: Io,
    /// Completions come only when the driver waits for them.
    pub(super) defers: bool,
    /// Why io_uring was passed over, if it was.
    pub(in crate::backend) fallback: Option<io::Error>,
}

/// Builds a runtime on the calling thread.
///
/// # Errors
/// If `io` names one interface and the system refuses that.
pub(in crate::backend) fn build(io: Io) -> Result<Built, StartupError> {
    match io {
        Io::Epoll => build_epoll(None),
        Io::Uring => build_uring(Work::Deferred)
            .or_else(|_| build_uring(Work::Cooperative))
            .or_else(|_| build_uring(Work::Interrupting))
            .map_err(StartupError::io_uring),
        // A ring that interrupts costs more than epoll does: see bench/runtimes.
        Io::Auto if cfg!(not(target_os = "linux")) => build_epoll(None),
        Io::Auto => build_uring(Work::Deferred)
            .or_else(|_| build_uring(Work::Cooperative))
            .or_else(|refused| build_epoll(Some(refused))),
        Io::Tokio | Io::Blocking => unreachable!("monoio has neither"),
    }
}

/// When the kernel does on this thread what a completion needs.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// When the driver waits (`DEFER_TASKRUN`, Linux 6.1): nothing interrupts a turn. While a
    /// task stays runnable the driver does not wait, so whoever wants another turn asks [`Runtime::driver_turned`] for it.
    ///
    /// [`Runtime::driver_turned`]: crate::backend::tasks::Runtime::turned
    Deferred,
    /// At the next system call, without an interrupt (`COOP_TASKRUN`, Linux 5.19).
    Cooperative,
    /// At once.
    Interrupting,
}

#[cfg(target_os = "linux")]
fn build_uring(work: Work) -> io::Result<Built> {
    let runtime = build_ring(work)?;
    // A ring of a kernel that lacks one of monoio's operations can be built and then fails every accept.
    if !monoio::utils::detect_uring() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the io_uring of this kernel lacks operations that the broker needs",
        ));
    }
    Ok(Built { runtime, io: Io::Uring, defers: work == Work::Deferred, fallback: None })
}

#[cfg(not(target_os = "linux"))]
fn build_uring(_: Work) -> io::Result<Built> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has io_uring"))
}

#[cfg(target_os = "linux")]
fn build_ring(work: Work) -> io::Result<Runtime> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_clamp().setup_cqsize(COMPLETION_ENTRIES);
    match work {
        Work::Deferred => ring.setup_single_issuer().setup_defer_taskrun(),
        Work::Cooperative => ring.setup_coop_taskrun(),
        Work::Interrupting => &mut ring,
    };
    // A filter may permit the ring and forbid to enter it, which monoio would meet as an error at every turn.
    ring.build(2)?.submit()?;
    let builder = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(SUBMISSION_ENTRIES)
        .enable_timer();
    Ok(builder.build()?.into())
}

fn build_epoll(fallback: Option<io::Error>) -> Result<Built, StartupError> {
    // Here the entries are the events that one wait returns at most.
    let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(SUBMISSION_ENTRIES).enable_timer();
    let runtime =
        builder.build().map_err(|error| StartupError::system(format!("set up {}", Io::Epoll), error))?;
    Ok(Built { runtime: runtime.into(), io: Io::Epoll, defers: false, fallback })
}
