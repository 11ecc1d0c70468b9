//! System calls on sockets that return at once, in blocking and in non-blocking mode.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
#[cfg(unix)]
use rustix::net::{RecvFlags, SendFlags};

#[cfg(target_os = "linux")]
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// The standard library disables SIGPIPE: by a socket option on macOS, and for the whole process at start.
#[cfg(all(unix, not(target_os = "linux")))]
const SEND: SendFlags = SendFlags::DONTWAIT;

/// Receives the bytes that have arrived, at most the length of `buffer`.
#[cfg(unix)]
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(length, _)| length)?)
}

/// A Windows socket with a blocking receive has no other one, so nothing is received.
#[cfg(not(unix))]
pub(super) fn receive(_: impl AsFd, _: &mut [u8]) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// Sends as many of `bytes` as the kernel takes.
#[cfg(unix)]
pub(super) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SEND)?)
}

/// Whether bytes, an end or an error wait to be received.
pub(super) fn is_readable(socket: impl AsFd) -> bool {
    let mut sockets = [PollFd::new(&socket, PollFlags::IN)];
    poll(&mut sockets, Some(&Timespec::default())).is_ok_and(|ready_count| ready_count > 0)
}
