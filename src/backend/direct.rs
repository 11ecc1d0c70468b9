//! System calls on sockets that return at once, whatever mode the socket is in.
//! Knows no runtime.

use std::io;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags};

#[cfg(target_os = "linux")]
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// The standard library sets what stands for `NOSIGNAL` when it makes a socket, and ignores the signal.
#[cfg(not(target_os = "linux"))]
const SEND: SendFlags = SendFlags::DONTWAIT;

/// Takes what has arrived, at most `buffer`'s length.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(length, _)| length)?)
}

/// Sends what the kernel takes of `bytes`.
pub(super) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SEND)?)
}
