//! Listening sockets without an address of the network: those in the file system, and those that systemd passes.
//! Both exist once, and each shard that accepts has a duplicate.

use std::io;

use socket2::Socket;

use crate::config::FileMode;

/// Listens at `path`. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// `AddrInUse` if another process listens there; any other error of the system.
#[cfg(unix)]
pub(super) fn bind(path: &std::path::Path, mode: FileMode, backlog: i32) -> io::Result<Socket> {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    use std::os::unix::net::UnixStream;

    if fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket()) {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        fs::remove_file(path)?;
    }
    let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // The system's own text names only a constant of C.
    let address = socket2::SockAddr::unix(path)
        .map_err(|error| io::Error::new(error.kind(), "the path is too long for a socket"))?;
    socket.bind(&address)?;
    // No process can connect before `listen`, so nobody else connects in the meantime.
    fs::set_permissions(path, fs::Permissions::from_mode(mode.0))?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// # Errors
/// Always: this system has no such sockets.
#[cfg(not(unix))]
pub(super) fn bind(_: &std::path::Path, _: FileMode, _: i32) -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The sockets that systemd passes under `name`, in its order.
///
/// # Errors
/// If there is none, or one of them does not listen.
#[cfg(target_os = "linux")]
pub(super) fn passed(name: &str) -> io::Result<Vec<Socket>> {
    use std::os::fd::BorrowedFd;

    let mut sockets = Vec::new();
    let mut names = Vec::new();
    for (raw, given) in sd_notify::listen_fds_with_names()? {
        if given == name {
            #[expect(unsafe_code, reason = "systemd passes descriptors as numbers")]
            // SAFETY: systemd opened the descriptor for this process, and nobody here closes it: a duplicate is kept.
            let passed = unsafe { BorrowedFd::borrow_raw(raw) };
            let socket = Socket::from(passed.try_clone_to_owned()?);
            if socket.r#type()? != socket2::Type::STREAM || !socket.is_listener()? {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the socket is not a listening stream",
                ));
            }
            sockets.push(socket);
        }
        names.push(given);
    }
    if sockets.is_empty() {
        let reason = if names.is_empty() {
            "systemd passed no socket; start the broker by its socket unit".to_owned()
        } else {
            format!(
                "systemd passed sockets of the names {names:?}; FileDescriptorName= in the socket unit sets the name"
            )
        };
        return Err(io::Error::new(io::ErrorKind::NotFound, reason));
    }
    Ok(sockets)
}

/// # Errors
/// Always: only Linux has systemd.
#[cfg(not(target_os = "linux"))]
pub(super) fn passed(_: &str) -> io::Result<Vec<Socket>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The address of a socket as the log tells it.
pub(super) fn place(socket: &Socket) -> String {
    let address = socket.local_addr().ok();
    #[cfg(unix)]
    let path =
        address.as_ref().and_then(|address| address.as_pathname()).map(|path| path.display().to_string());
    #[cfg(not(unix))]
    let path = None;
    let ip = address.as_ref().and_then(socket2::SockAddr::as_socket).map(|address| address.to_string());
    ip.or(path).unwrap_or_else(|| "a socket without a name".to_owned())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::process::scratch::Scratch;

    #[test]
    fn a_socket_has_its_mode_replaces_a_stale_one_and_no_other() {
        let scratch = Scratch::new("local");
        let path = scratch.path().join("mqtt.sock");
        let first = bind(&path, FileMode(0o660), 16).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(place(&first), path.display().to_string());
        UnixStream::connect(&path).unwrap();
        assert_eq!(bind(&path, FileMode(0o600), 16).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = bind(&path, FileMode(0o600), 16).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(second);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        bind(&path, FileMode(0o600), 16).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn without_systemd_the_remedy_is_named() {
        assert!(passed("mqtt").unwrap_err().to_string().contains("socket unit"));
    }
}
