//! Creates the runtime of a shard: the best io_uring that the system permits, or else epoll; kqueue on macOS.

use std::io;

#[cfg(target_os = "linux")]
use monoio::IoUringDriver;
use monoio::time::TimeDriver;
use monoio::{FusionRuntime, LegacyDriver, RuntimeBuilder};

use crate::config::Io;
use crate::error::StartupError;

#[cfg(target_os = "linux")]
use super::watcher::Watcher;

/// Submission queue entries of monoio's ring, which has the accepts and the waits of blocked senders; on epoll, the events of one
/// wait.
const SUBMISSION_ENTRIES: u32 = 4_096;
/// Completion queue entries. A larger burst of completions goes through the slow overflow list of the kernel.
#[cfg(target_os = "linux")]
const COMPLETION_ENTRIES: u32 = 32_768;

#[cfg(target_os = "linux")]
const _: () = assert!(COMPLETION_ENTRIES >= 2 * SUBMISSION_ENTRIES);

#[cfg(not(target_os = "linux"))]
type Runtime = FusionRuntime<TimeDriver<LegacyDriver>>;
#[cfg(target_os = "linux")]
type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// A runtime and the interface that it uses.
pub(in crate::backend) struct Built {
    pub(super) runtime: Runtime,
    /// Never `Auto`.
    pub(in crate::backend) io: Io,
    /// Completions arrive only when the driver waits for them.
    #[cfg(target_os = "linux")]
    pub(super) defers: bool,
    /// Watches the connections; there on io_uring, until the shard serves.
    #[cfg(target_os = "linux")]
    pub(super) watcher: Option<Watcher>,
    /// The reason why io_uring is not used, if it was tried.
    pub(in crate::backend) fallback: Option<io::Error>,
}

/// Builds a runtime on the calling thread.
///
/// # Errors
/// If `io` names one interface and the system refuses it.
pub(in crate::backend) fn build(io: Io) -> Result<Built, StartupError> {
    match io {
        Io::Epoll => build_epoll(None),
        Io::Uring => build_uring(Work::Deferred)
            .or_else(|_| build_uring(Work::Cooperative))
            .or_else(|_| build_uring(Work::Interrupting))
            .map_err(StartupError::io_uring),
        // A ring with interrupts costs more than epoll; bench/runtimes has the measurement.
        Io::Auto if cfg!(not(target_os = "linux")) => build_epoll(None),
        Io::Auto => build_uring(Work::Deferred)
            .or_else(|_| build_uring(Work::Cooperative))
            .or_else(|refused| build_epoll(Some(refused))),
        Io::Tokio | Io::Blocking => unreachable!("monoio serves neither of them"),
    }
}

/// The time at which the kernel completes operations on this thread.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// When the driver waits (`DEFER_TASKRUN`, Linux 6.1): nothing interrupts a turn. While a task is runnable the
    /// driver does not wait, so a task that needs a turn of the driver awaits [`Runtime::driver_turned`].
    ///
    /// [`Runtime::driver_turned`]: crate::backend::tasks::Runtime::driver_turned
    Deferred,
    /// At the next system call, without an interrupt (`COOP_TASKRUN`, Linux 5.19).
    Cooperative,
    /// At once, by an interrupt.
    Interrupting,
}

#[cfg(target_os = "linux")]
fn build_uring(work: Work) -> io::Result<Built> {
    let runtime = build_ring(work)?;
    // On a kernel that lacks one of the operations of monoio, the ring can be built but fails every accept.
    if !monoio::utils::detect_uring() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the io_uring of this kernel lacks operations that the broker needs",
        ));
    }
    let watcher = Some(Watcher::new()?);
    Ok(Built { runtime, io: Io::Uring, defers: work == Work::Deferred, watcher, fallback: None })
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
    // A seccomp filter can permit the setup of the ring and forbid entering it. monoio would fail in every turn.
    ring.build(2)?.submit()?;
    let builder = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(SUBMISSION_ENTRIES)
        .enable_timer();
    Ok(builder.build()?.into())
}

fn build_epoll(fallback: Option<io::Error>) -> Result<Built, StartupError> {
    // For epoll the entries are the maximum number of events of one wait.
    let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(SUBMISSION_ENTRIES).enable_timer();
    let runtime =
        builder.build().map_err(|error| StartupError::system(format!("set up {}", Io::Epoll), error))?;
    Ok(Built {
        runtime: runtime.into(),
        io: Io::Epoll,
        #[cfg(target_os = "linux")]
        defers: false,
        #[cfg(target_os = "linux")]
        watcher: None,
        fallback,
    })
}
