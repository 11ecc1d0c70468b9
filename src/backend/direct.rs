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

/// A peer that sends no more. Its end waits behind the bytes that it sent before, so a receive does not tell it.
#[cfg(target_os = "linux")]
const ENDED: PollFlags = PollFlags::RDHUP.union(PollFlags::HUP).union(PollFlags::ERR);
/// Elsewhere only a connection that is gone in both directions is told.
#[cfg(not(target_os = "linux"))]
const ENDED: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// Whether the peer has left, whatever waits to be received before its end.
pub(super) fn has_ended(socket: impl AsFd) -> bool {
    let asked = if cfg!(target_os = "linux") { ENDED } else { PollFlags::IN };
    let mut sockets = [PollFd::new(&socket, asked)];
    let is_ready = poll(&mut sockets, Some(&Timespec::default())).is_ok_and(|ready_count| ready_count > 0);
    is_ready && sockets[0].revents().intersects(ENDED)
}

/// Whether bytes, an end or an error wait to be received.
pub(super) fn is_readable(socket: impl AsFd) -> bool {
    let mut sockets = [PollFd::new(&socket, PollFlags::IN)];
    poll(&mut sockets, Some(&Timespec::default())).is_ok_and(|ready_count| ready_count > 0)
}
