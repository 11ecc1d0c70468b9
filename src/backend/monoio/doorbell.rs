//! Wakes a shard on monoio from another thread, through a descriptor.
//! Knows nothing of what was put where the shard will look.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::backend::tasks;

/// The shard's end before its runtime exists.
pub(crate) struct DoorbellDescriptor(OwnedFd);

/// The other end. **Lives on:** any thread.
#[derive(Debug)]
pub(in crate::backend) struct Doorbell(OwnedFd);

/// **Lives on:** the shard that is woken.
pub(super) struct DoorbellReceiver {
    watched: monoio::net::TcpStream,
    descriptor: OwnedFd,
}

impl DoorbellDescriptor {
    /// Both ends.
    ///
    /// # Errors
    /// If the system refuses two more descriptors.
    pub(in crate::backend) fn new() -> io::Result<(Self, Doorbell)> {
        let (descriptor, doorbell) = pair()?;
        Ok((Self(descriptor), Doorbell(doorbell)))
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
    let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let doorbell = descriptor.try_clone()?;
    Ok((descriptor, doorbell))
}

/// Two connected sockets: the bytes of several rings are read at once, or ring once more.
#[cfg(not(target_os = "linux"))]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (descriptor, doorbell) = std::os::unix::net::UnixStream::pair()?;
    descriptor.set_nonblocking(true)?;
    doorbell.set_nonblocking(true)?;
    Ok((descriptor.into(), doorbell.into()))
}

impl Doorbell {
    pub(in crate::backend) fn ring(&self) {
        // One that is full wakes it too, and nothing else can fail on a descriptor that is open.
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
