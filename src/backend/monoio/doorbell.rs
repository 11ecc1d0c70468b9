//! The doorbell of a shard on monoio: a descriptor, an eventfd on Linux and a pair of sockets on macOS.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::backend::tasks;

/// The shard's end before its runtime exists.
pub(crate) struct DoorbellDescriptor(OwnedFd);

/// The ringing end. **Lives on:** any thread.
#[derive(Debug)]
pub(in crate::backend) struct Doorbell(OwnedFd);

/// **Lives on:** the shard that is woken.
pub(super) struct DoorbellReceiver {
    watched: monoio::net::TcpStream,
    descriptor: OwnedFd,
}

impl DoorbellDescriptor {
    /// Creates both ends.
    ///
    /// # Errors
    /// If the system refuses two descriptors.
    pub(in crate::backend) fn new() -> io::Result<(Self, Doorbell)> {
        let (descriptor, doorbell) = pair()?;
        Ok((Self(descriptor), Doorbell(doorbell)))
    }

    /// A duplicate of the descriptor, watched by monoio. It is disguised as a socket: monoio accepts only sockets and
    /// files, and does not poll files on epoll. Must run inside the shard's runtime.
    pub(super) fn watch(&self) -> io::Result<monoio::net::TcpStream> {
        monoio::net::TcpStream::from_std(TcpStream::from(self.0.try_clone()?))
    }
}

/// An eventfd and its duplicate. One read of eight bytes clears all rings.
#[cfg(target_os = "linux")]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::event::{EventfdFlags, eventfd};
    let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let doorbell = descriptor.try_clone()?;
    Ok((descriptor, doorbell))
}

/// Two connected sockets. One read takes the bytes of several rings; rings beyond it wake the shard once more.
#[cfg(not(target_os = "linux"))]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (descriptor, doorbell) = std::os::unix::net::UnixStream::pair()?;
    descriptor.set_nonblocking(true)?;
    doorbell.set_nonblocking(true)?;
    Ok((descriptor.into(), doorbell.into()))
}

impl Doorbell {
    pub(in crate::backend) fn ring(&self) {
        // A full descriptor wakes the shard as well, and no other error is possible on an open descriptor.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl DoorbellReceiver {
    /// Must run inside the shard's runtime.
    pub(super) fn attach(descriptor: DoorbellDescriptor) -> io::Result<Self> {
        Ok(Self { watched: descriptor.watch()?, descriptor: descriptor.0 })
    }
}

impl tasks::DoorbellReceiver for DoorbellReceiver {
    async fn rung(&self) -> io::Result<()> {
        loop {
            self.watched.readable(false).await?;
            match rustix::io::read(&self.descriptor, &mut [0_u8; 512]) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
