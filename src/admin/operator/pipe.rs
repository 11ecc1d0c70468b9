//! Windows: a named pipe, called after the data directory. By the system's default whoever runs the broker, administrators and the
//! system itself may write to it, others at most read; nobody reaches it from another machine.
//! Knows nothing of what is said.

use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::process::clock;

/// Where pipes are. What follows is one name: it may hold any character but a backslash, and 256 with this.
const PREFIX: &str = r"\\.\pipe\mqtt-broker";

/// What the system says while another operator is let in.
const ERROR_PIPE_BUSY: i32 = 231;

/// How long to rest before asking again then.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Where the broker of a data directory is asked: the same place for every way to write the directory.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    // A directory that is not there has no broker, under no name.
    let directory = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let directory = directory.to_string_lossy().replace('\\', "/");
    // The canonical form says by `//?/` that it is one.
    format!("{PREFIX}/{}", directory.trim_start_matches("//?/")).into()
}

/// Nothing is left of a pipe that nobody holds.
pub(super) fn remove(_: &Path) {}

/// The broker's end. There is always one instance of the pipe that waits, so that no other process can take its name.
pub(super) struct Listener {
    path: PathBuf,
    waiting: Stream,
}

impl Listener {
    /// Listens at `path`. Wine lets a second one listen there; the lock of the data directory is what keeps two brokers apart.
    ///
    /// # Errors
    /// `PermissionDenied` if another process has a pipe of that name; whatever else the system refuses.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let waiting =
            Stream::new(|| ServerOptions::new().first_pipe_instance(true).create(path).map(End::Broker))?;
        Ok(Self { path: path.to_owned(), waiting })
    }

    /// Waits for the next operator.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub(super) fn accept(&mut self) -> io::Result<Stream> {
        let End::Broker(pipe) = &self.waiting.end else { unreachable!("a listener holds the broker's end") };
        self.waiting.runtime.block_on(pipe.connect())?;
        let next = Stream::new(|| ServerOptions::new().create(&self.path).map(End::Broker));
        if next.is_err() {
            // Without a successor it has to wait on.
            pipe.disconnect()?;
        }
        Ok(mem::replace(&mut self.waiting, next?))
    }
}

/// One connection, with a runtime that turns while somebody waits for it.
pub(super) struct Stream {
    end: End,
    runtime: Runtime,
}

enum End {
    Broker(NamedPipeServer),
    Operator(NamedPipeClient),
}

impl Stream {
    fn new(open: impl FnOnce() -> io::Result<End>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let end = open()?;
        drop(inside);
        Ok(Self { end, runtime })
    }

    /// Connects to whoever listens at `path`. That one learns who asks, and cannot act in that name.
    ///
    /// # Errors
    /// `NotFound` if nobody does; whatever else the system refuses, within `patience`.
    pub(super) fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let deadline = clock::read() + patience;
        loop {
            match Self::new(|| ClientOptions::new().open(path).map(End::Operator)) {
                Err(busy) if busy.raw_os_error() == Some(ERROR_PIPE_BUSY) && clock::read() < deadline => {
                    thread::sleep(RETRY_INTERVAL);
                }
                opened => return opened,
            }
        }
    }

    /// What came next; nothing at the end.
    ///
    /// # Errors
    /// `TimedOut` if nothing came for as long as `patience`; whatever the system refuses.
    pub(super) fn read(&mut self, piece: &mut [u8], patience: Duration) -> io::Result<usize> {
        self.runtime.block_on(async {
            match &mut self.end {
                End::Broker(pipe) => timeout(patience, pipe.read(piece)).await?,
                End::Operator(pipe) => timeout(patience, pipe.read(piece)).await?,
            }
        })
    }

    /// Sends all of it. What the broker sends is its last word: it goes with the operator.
    ///
    /// # Errors
    /// Whatever the system refuses, and a peer that does not take it within `patience`.
    pub(super) fn write_all(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let end = &mut self.end;
        let sent = async {
            match end {
                End::Broker(pipe) => {
                    pipe.write_all(bytes).await?;
                    // What was written is on its way only while the runtime turns, and has arrived when the other end goes.
                    while pipe.read(&mut [0; 4096]).await? > 0 {}
                    Ok(())
                }
                End::Operator(pipe) => pipe.write_all(bytes).await,
            }
        };
        self.runtime.block_on(async { timeout(patience, sent).await? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    #[test]
    fn every_spelling_of_a_directory_has_one_pipe_name() {
        let scratch = Scratch::new("operator_path");
        let plain = path(scratch.path());
        assert_eq!(path(&scratch.path().join("..").join(scratch.path().file_name().unwrap())), plain);
        let shouted = PathBuf::from(scratch.path().to_str().unwrap().to_uppercase());
        assert_eq!(path(&shouted), plain);
        assert_ne!(path(&scratch.path().join("other")), plain);
    }

    #[test]
    fn a_pipe_disappears_with_its_listener() {
        let scratch = Scratch::new("operator_goes");
        let path = path(scratch.path());
        let connected = || Stream::connect(&path, Duration::ZERO).map(drop).map_err(|refused| refused.kind());
        for _ in 0..2 {
            assert_eq!(connected(), Err(io::ErrorKind::NotFound));
            let listener = Listener::bind(&path).unwrap();
            assert_eq!(connected(), Ok(()));
            drop(listener);
        }
        assert_eq!(connected(), Err(io::ErrorKind::NotFound));
    }
}
