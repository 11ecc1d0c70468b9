//! The runtime of a shard on systems without monoio, or on request: one single-threaded tokio runtime for each shard.
//! Connections are handled in `tasks`.

mod doorbell;
mod stream;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use socket2::Socket;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::time::Sleep;

use super::Parts;
use super::tasks::{self, Runtime};
use crate::error::StartupError;

pub(super) use doorbell::Doorbell;
pub(crate) use doorbell::DoorbellReceiver;
use stream::{Listener, Stream};

/// tokio as a runtime for tasks.
struct Tokio;

/// Builds a runtime on the calling thread. A `LocalRuntime` runs tasks that stay on their thread without a `LocalSet`,
/// which would wake its own runtime whenever a socket becomes ready.
///
/// # Errors
/// If the system refuses it.
pub(super) fn build() -> Result<LocalRuntime, StartupError> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(LocalOptions::default())
        .map_err(|error| StartupError::system("set up tokio", error))
}

/// Serves until the shard is stopped.
///
/// # Errors
/// An error of the system before the first connection.
pub(super) fn run(
    runtime: &LocalRuntime,
    doorbell: DoorbellReceiver,
    parts: Parts,
) -> Result<(), StartupError> {
    runtime.block_on(tasks::serve(Tokio, doorbell, parts))
}

impl Runtime for Tokio {
    type Stream = Stream;
    type Listener = Listener;
    type DoorbellReceiver = DoorbellReceiver;
    type Timer = Sleep;

    fn watch(&self, socket: Socket) -> io::Result<Stream> {
        Stream::from_socket(socket)
    }

    fn listen(&self, socket: Socket, _shared: bool) -> io::Result<Listener> {
        Listener::attach(socket)
    }

    fn accept_tasks(&self) -> usize {
        // A ready listener wakes one task, which accepts once a turn while connections wait.
        1
    }

    async fn driver_turned(&self) {
        // tokio looks at the sockets once in 61 tasks, and wakes a task that yields after it has looked.
        tokio::task::yield_now().await;
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(task));
    }

    fn timer(at: Instant) -> Sleep {
        tokio::time::sleep_until(at.into())
    }

    fn reset(timer: Pin<&mut Sleep>, at: Instant) {
        timer.reset(at.into());
    }
}
