//! The runtime of a shard on Linux and macOS: monoio with io_uring, epoll or kqueue. Connections are handled in
//! `tasks`.

mod doorbell;
mod runtime;
mod stream;

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::time::Instant;

use monoio::time::Sleep;

use super::Parts;
use super::tasks::{self, Runtime};
use crate::config::Io;
use crate::error::StartupError;

pub(super) use doorbell::Doorbell;
pub(crate) use doorbell::DoorbellDescriptor;
use doorbell::DoorbellReceiver;
pub(super) use runtime::{Built, build};
use stream::{Listener, Stream};

/// Outstanding accepts on a listener. Each completes for one connection, and many clients can connect at once.
pub(super) const ACCEPT_TASKS: usize = 8;

/// monoio as a runtime for tasks.
struct Monoio {
    runs_on_epoll: bool,
    /// A socket that is always writable. On a ring that defers its work, waiting for it completes after a turn of the
    /// driver.
    writable: Option<monoio::net::TcpStream>,
}

/// Serves until the shard is stopped.
///
/// # Errors
/// An error of the system before the first connection.
pub(super) fn run(
    mut built: Built,
    descriptor: DoorbellDescriptor,
    parts: Parts,
) -> Result<(), StartupError> {
    let (runs_on_epoll, defers) = (built.io == Io::Epoll, built.defers);
    built.runtime.block_on(async {
        let refused = |error| StartupError::system("watch the shard's doorbell", error);
        let writable = if defers { Some(descriptor.watch().map_err(refused)?) } else { None };
        let doorbell = DoorbellReceiver::attach(descriptor).map_err(refused)?;
        tasks::serve(Monoio { runs_on_epoll, writable }, doorbell, parts).await
    })
}

impl Runtime for Monoio {
    type Stream = Stream;
    type Listener = Listener;
    type DoorbellReceiver = DoorbellReceiver;
    type Timer = Sleep;

    fn listen(&self, listener: TcpListener) -> io::Result<Listener> {
        // epoll requires non-blocking sockets. io_uring would answer EAGAIN on them instead of waiting.
        listener.set_nonblocking(self.runs_on_epoll)?;
        Listener::attach(listener, self.runs_on_epoll)
    }

    fn accept_tasks(&self) -> usize {
        // On epoll a descriptor wakes one task, so more tasks would wait in vain.
        if self.runs_on_epoll { 1 } else { ACCEPT_TASKS }
    }

    async fn driver_turned(&self) {
        if let Some(writable) = &self.writable {
            // This wait cannot fail.
            let _ = writable.writable(false).await;
        }
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(monoio::spawn(task));
    }

    fn timer(at: Instant) -> Sleep {
        monoio::time::sleep_until(at.into())
    }

    fn reset(timer: Pin<&mut Sleep>, at: Instant) {
        timer.reset(at.into());
    }
}
