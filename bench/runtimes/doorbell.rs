//! Wakes a shard from another thread through an eventfd, without monoio's `sync` feature.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// The shard's end. **Lives on:** the shard that is woken.
pub(crate) struct Doorbell {
    /// monoio registers descriptors only as sockets or files, and files are not polled on epoll.
    watched: monoio::net::TcpStream,
    counter: OwnedFd,
}

/// The other end. **Lives on:** any thread.
pub(crate) struct Bell(OwnedFd);

/// The two ends, created before the shard's runtime exists.
pub(crate) fn create() -> io::Result<(OwnedFd, Bell)> {
    let counter = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let bell = Bell(counter.try_clone()?);
    Ok((counter, bell))
}

impl Bell {
    /// Wakes the shard; a counter that is full already wakes it too.
    pub(crate) fn ring(&self) -> io::Result<()> {
        match rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Doorbell {
    /// Must run inside the shard's runtime.
    pub(crate) fn attach(counter: OwnedFd) -> io::Result<Self> {
        let watched = monoio::net::TcpStream::from_std(TcpStream::from(counter.try_clone()?))?;
        Ok(Self { watched, counter })
    }

    /// Completes after at least one ring since the last time; the poll stays with the driver meanwhile.
    pub(crate) async fn rung(&self) -> io::Result<()> {
        loop {
            self.watched.readable(false).await?;
            match rustix::io::read(&self.counter, &mut [0_u8; 8]) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
