//! Windows: a named pipe whose name is derived from the data directory. By the default access rights of the system,
//! the user that runs the broker, administrators and the system can write to it, other users can at most read, and
//! other machines have no access.

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

/// Prefix of pipe names. The rest is one name of any characters but a backslash; the whole has at most 256.
const PREFIX: &str = r"\\.\pipe\mqtt-broker";

/// The error of the system while another operator is being connected.
const ERROR_PIPE_BUSY: i32 = 231;

/// Pause before the next attempt after that error.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The name of the pipe for a data directory, the same for every spelling of its path.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    // A directory that does not exist has no broker under any name.
    let directory = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let directory = directory.to_string_lossy().replace('\\', "/");
    // The canonical form starts with `//?/`.
    format!("{PREFIX}/{}", directory.trim_start_matches("//?/")).into()
}

/// A pipe disappears with its last handle.
pub(super) fn remove(_: &Path) {}

/// The broker's end. One instance of the pipe always waits for an operator, so that no other process can take its
/// name.
pub(super) struct Listener {
    path: PathBuf,
    waiting: Stream,
}

impl Listener {
    /// Listens at `path`. Wine permits a second listener; the lock of the data directory keeps two brokers apart.
    ///
    /// # Errors
    /// `PermissionDenied` if another process has a pipe of that name; any other error of the system.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let waiting =
            Stream::new(|| ServerOptions::new().first_pipe_instance(true).create(path).map(End::Broker))?;
        Ok(Self { path: path.to_owned(), waiting })
    }

    /// Waits for the next operator.
    ///
    /// # Errors
    /// Any error of the system.
    pub(super) fn accept(&mut self) -> io::Result<Stream> {
        let End::Broker(pipe) = &self.waiting.end else { unreachable!("a listener has the broker's end") };
        self.waiting.runtime.block_on(pipe.connect())?;
        let next = Stream::new(|| ServerOptions::new().create(&self.path).map(End::Broker));
        if next.is_err() {
            // Without a new instance this one has to wait for the next operator.
            pipe.disconnect()?;
        }
        Ok(mem::replace(&mut self.waiting, next?))
    }
}

/// One connection, with a runtime that runs only while a call waits for it.
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

    /// Connects to the listener at `path`. The listener can identify this user, but cannot act as this user.
    ///
    /// # Errors
    /// `NotFound` if no process listens; any other error of the system, within `time_limit`.
    pub(super) fn connect(path: &Path, time_limit: Duration) -> io::Result<Self> {
        let deadline = clock::read() + time_limit;
        loop {
            match Self::new(|| ClientOptions::new().open(path).map(End::Operator)) {
                Err(busy) if busy.raw_os_error() == Some(ERROR_PIPE_BUSY) && clock::read() < deadline => {
                    thread::sleep(RETRY_INTERVAL);
                }
                opened => return opened,
            }
        }
    }

    /// Reads the next bytes; 0 at the end.
    ///
    /// # Errors
    /// `TimedOut` if no byte arrives for `time_limit`; any error of the system.
    pub(super) fn read(&mut self, piece: &mut [u8], time_limit: Duration) -> io::Result<usize> {
        self.runtime.block_on(async {
            match &mut self.end {
                End::Broker(pipe) => timeout(time_limit, pipe.read(piece)).await?,
                End::Operator(pipe) => timeout(time_limit, pipe.read(piece)).await?,
            }
        })
    }

    /// Sends all bytes. The broker then waits until the operator closes, because it sends nothing afterwards.
    ///
    /// # Errors
    /// Any error of the system, and a timeout if the peer does not take the bytes within `time_limit`.
    pub(super) fn write_all(&mut self, bytes: &[u8], time_limit: Duration) -> io::Result<()> {
        let end = &mut self.end;
        let sent = async {
            match end {
                End::Broker(pipe) => {
                    pipe.write_all(bytes).await?;
                    // Written bytes are sent only while the runtime runs, and have arrived when the other end closes.
                    while pipe.read(&mut [0; 4096]).await? > 0 {}
                    Ok(())
                }
                End::Operator(pipe) => pipe.write_all(bytes).await,
            }
        };
        self.runtime.block_on(async { timeout(time_limit, sent).await? })
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
