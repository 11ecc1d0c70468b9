//! The runtime of a shard on Linux and macOS: monoio with io_uring, epoll or kqueue. Connections are handled in
//! `tasks`.

mod doorbell;
#[cfg(target_os = "linux")]
mod ring;
mod runtime;
mod stream;
#[cfg(target_os = "linux")]
mod watcher;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use monoio::time::Sleep;
use socket2::Socket;

use super::Parts;
use super::tasks::{self, Runtime};
use crate::error::StartupError;

pub(super) use doorbell::Doorbell;
pub(crate) use doorbell::DoorbellDescriptor;
use doorbell::DoorbellReceiver;
pub(super) use runtime::{Built, build};
use stream::{Listener, Stream};

/// Outstanding accepts on a listener. Each completes for one connection, and many clients can connect at once.
pub(super) const ACCEPT_TASKS: usize = 8;

/// monoio on epoll or kqueue as a runtime for tasks.
struct Polling;

/// Serves until the shard is stopped.
///
/// # Errors
/// An error of the system before the first connection.
pub(super) fn run(
    mut built: Built,
    descriptor: DoorbellDescriptor,
    parts: Parts,
) -> Result<(), StartupError> {
    let refused = |error| StartupError::system("watch the shard's doorbell", error);
    #[cfg(target_os = "linux")]
    if let Some(watcher) = built.watcher.take() {
        return built.runtime.block_on(async {
            // A ring that defers its work turns when the driver waits.
            let writable = if built.defers { Some(descriptor.watch().map_err(refused)?) } else { None };
            let doorbell = DoorbellReceiver::attach(descriptor).map_err(refused)?;
            let ring = ring::Ring::start(watcher, writable)
                .map_err(|error| StartupError::system("watch the shard's connections", error))?;
            Box::pin(tasks::serve(ring, doorbell, parts)).await
        });
    }
    built.runtime.block_on(async {
        let doorbell = DoorbellReceiver::attach(descriptor).map_err(refused)?;
        Box::pin(tasks::serve(Polling, doorbell, parts)).await
    })
}

impl Runtime for Polling {
    type Stream = Stream;
    type Listener = Listener;
    type DoorbellReceiver = DoorbellReceiver;
    type Timer = Sleep;

    fn watch(&self, socket: Socket) -> io::Result<Stream> {
        Stream::from_socket(socket.into())
    }

    fn listen(&self, socket: Socket, shared: bool) -> io::Result<Listener> {
        Listener::attach(socket, shared)
    }

    fn accept_tasks(&self) -> usize {
        // A descriptor wakes one task, so more tasks would wait in vain.
        1
    }

    async fn driver_turned(&self) {}

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
