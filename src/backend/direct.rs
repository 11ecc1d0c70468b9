//! System calls on sockets that return at once, in blocking and in non-blocking mode.

use std::io;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags};

#[cfg(target_os = "linux")]
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// The standard library disables SIGPIPE: by a socket option on macOS, and for the whole process at start.
#[cfg(not(target_os = "linux"))]
const SEND: SendFlags = SendFlags::DONTWAIT;

/// Receives the bytes that have arrived, at most the length of `buffer`.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(length, _)| length)?)
}

/// Sends as many of `bytes` as the kernel takes.
pub(super) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SEND)?)
}
