//! Unix: a socket in the data directory. Only its owner can connect.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// The socket, below the data directory.
const FILE: &str = "control.sock";

/// Operators that can wait while another one is served; the system refuses one more.
const WAITING_MAX: i32 = 16;

/// Path of the socket for a data directory.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Removes the socket.
pub(super) fn remove(path: &Path) {
    // If this fails, the next start replaces the socket.
    let _ = fs::remove_file(path);
}

/// The broker's end.
pub(super) struct Listener(UnixListener);

impl Listener {
    /// Listens at `path`, in a data directory that this process has locked.
    ///
    /// # Errors
    /// Any error of the system, such as a path that is too long.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        // This process holds the data directory, so the process that bound this socket has ended.
        if fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address(path)?)?;
        // No process can connect before `listen`, so the socket is never accessible to other users.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        socket.listen(WAITING_MAX)?;
        Ok(Self(socket.into()))
    }

    /// Waits for the next operator.
    ///
    /// # Errors
    /// Any error of the system.
    pub(super) fn accept(&mut self) -> io::Result<Stream> {
        self.0.accept().map(|(stream, _)| Stream(stream))
    }
}

/// One connection.
pub(super) struct Stream(UnixStream);

impl Stream {
    /// Connects to the listener at `path`.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` if no process listens; any other error of the system, within `time_limit`.
    pub(super) fn connect(path: &Path, time_limit: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // On Linux this also bounds the wait for a slot in the queue of the listener.
        socket.set_write_timeout(Some(time_limit))?;
        socket.connect(&address(path)?)?;
        Ok(Self(socket.into()))
    }

    /// Reads the next bytes; 0 at the end.
    ///
    /// # Errors
    /// `TimedOut` if no byte arrives for `time_limit`, which must not be zero; any error of the system.
    pub(super) fn read(&mut self, piece: &mut [u8], time_limit: Duration) -> io::Result<usize> {
        self.0.set_read_timeout(Some(time_limit))?;
        match self.0.read(piece) {
            // The error of the system when the time is up.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            read => read,
        }
    }

    /// Sends all bytes.
    ///
    /// # Errors
    /// Any error of the system, and a timeout if the peer takes no bytes for `time_limit`.
    pub(super) fn write_all(&mut self, bytes: &[u8], time_limit: Duration) -> io::Result<()> {
        self.0.set_write_timeout(Some(time_limit))?;
        self.0.write_all(bytes)
    }
}

/// The address of the socket at `path`.
fn address(path: &Path) -> io::Result<SockAddr> {
    // The system's own text names only a constant of C.
    SockAddr::unix(path).map_err(|error| io::Error::new(error.kind(), "the path is too long for a socket"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::operator::listen;
    use crate::net::bans::Bans;
    use crate::process::scratch::Scratch;

    #[test]
    fn the_socket_belongs_to_its_owner_alone_and_is_removed_on_drop() {
        let scratch = Scratch::new("operator_mode");
        let path = scratch.path().join(FILE);
        let commands = listen(scratch.path(), Bans::default());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(commands);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_another_file_left_alone() {
        let scratch = Scratch::new("operator_stale");
        let path = scratch.path().join(FILE);
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists() && UnixStream::connect(&path).is_err(), "it is stale");
        let commands = listen(scratch.path(), Bans::default());
        UnixStream::connect(&path).unwrap();
        drop(commands);
        fs::write(&path, "mine").unwrap();
        drop(listen(scratch.path(), Bans::default()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
