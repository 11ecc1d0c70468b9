//! Wakes a shard on monoio from another thread, through a descriptor.
//! Knows nothing of what was put where the shard will look.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::backend::tasks;

/// The shard's end before its runtime exists.
pub(crate) struct Counter(OwnedFd);

/// The other end. **Lives on:** any thread.
#[derive(Debug)]
pub(in crate::backend) struct Bell(OwnedFd);

/// **Lives on:** the shard that is woken.
pub(super) struct Doorbell {
    watched: monoio::net::TcpStream,
    counter: OwnedFd,
}

impl Counter {
    /// Both ends.
    ///
    /// # Errors
    /// If the system refuses two more descriptors.
    pub(in crate::backend) fn new() -> io::Result<(Self, Bell)> {
        let (counter, bell) = pair()?;
        Ok((Self(counter), Bell(bell)))
    }

    /// The same counter as monoio watches it, which takes descriptors only as sockets or files, and does not poll files on
    /// epoll. Must run inside the shard's runtime.
    pub(super) fn watch(&self) -> io::Result<monoio::net::TcpStream> {
        monoio::net::TcpStream::from_std(TcpStream::from(self.0.try_clone()?))
    }
}

/// An eventfd and itself: eight bytes read are all that was rung since.
#[cfg(target_os = "linux")]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::event::{EventfdFlags, eventfd};
    let counter = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let bell = counter.try_clone()?;
    Ok((counter, bell))
}

/// Two connected sockets: the bytes of several rings are read at once, or ring once more.
#[cfg(not(target_os = "linux"))]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (counter, bell) = std::os::unix::net::UnixStream::pair()?;
    counter.set_nonblocking(true)?;
    bell.set_nonblocking(true)?;
    Ok((counter.into(), bell.into()))
}

impl Bell {
    pub(in crate::backend) fn ring(&self) {
        // One that is full wakes it too, and nothing else can fail on a descriptor that is open.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Doorbell {
    /// Must run inside the shard's runtime.
    pub(super) fn attach(counter: Counter) -> io::Result<Self> {
        Ok(Self { watched: counter.watch()?, counter: counter.0 })
    }
}

impl tasks::Doorbell for Doorbell {
    async fn rung(&self) -> io::Result<()> {
        loop {
            self.watched.readable(false).await?;
            match rustix::io::read(&self.counter, &mut [0_u8; 512]) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
