//! Wakes a shard from another thread: through an eventfd on Linux, a pair of sockets elsewhere.
//! Knows nothing of what was put where the shard will look.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Bytes read at once: an eventfd has always eight, however often it was rung, a socket as many for each ring.
const RINGS_READ: usize = 64;

/// The shard's end before its runtime exists.
pub(crate) struct Counter(OwnedFd);

/// The other end. **Lives on:** any thread.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

#[expect(
    clippy::disallowed_types,
    reason = "every shard rings every other's, and descriptors are not counted by themselves"
)]
type Shared<T> = std::sync::Arc<T>;

/// The doorbells of all shards, in order. **Lives on:** any thread.
#[derive(Clone, Debug)]
pub(crate) struct Bells(Shared<[Bell]>);

impl Bells {
    /// Wakes a shard.
    ///
    /// # Panics
    /// If there is no such shard.
    pub(crate) fn ring(&self, shard: usize) {
        self.0[shard].ring();
    }
}

impl From<Vec<Bell>> for Bells {
    fn from(bells: Vec<Bell>) -> Self {
        Self(bells.into())
    }
}

/// **Lives on:** the shard that is woken.
pub(super) struct Doorbell {
    /// monoio takes descriptors only as sockets or files, and does not poll files on epoll.
    watched: monoio::net::TcpStream,
    counter: OwnedFd,
}

impl Counter {
    /// Both ends.
    ///
    /// # Errors
    /// If the system refuses two more descriptors.
    pub(crate) fn new() -> io::Result<(Self, Bell)> {
        let (counter, bell) = pair()?;
        Ok((Self(counter), Bell(bell)))
    }
}

/// The end that is read and the end that is written, neither of which ever waits.
#[cfg(target_os = "linux")]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::event::{EventfdFlags, eventfd};

    let counter = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let bell = counter.try_clone()?;
    Ok((counter, bell))
}

/// The end that is read and the end that is written, neither of which ever waits.
#[cfg(not(target_os = "linux"))]
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (counter, bell) = std::os::unix::net::UnixStream::pair()?;
    counter.set_nonblocking(true)?;
    bell.set_nonblocking(true)?;
    Ok((counter.into(), bell.into()))
}

impl Bell {
    fn ring(&self) {
        // A counter or a socket that is full wakes it too, and nothing else can fail on a descriptor that is open.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Doorbell {
    /// Must run inside the shard's runtime.
    pub(super) fn attach(Counter(counter): Counter) -> io::Result<Self> {
        let watched = monoio::net::TcpStream::from_std(TcpStream::from(counter.try_clone()?))?;
        Ok(Self { watched, counter })
    }

    /// Completes after at least one ring since the last time.
    pub(super) async fn rung(&self) -> io::Result<()> {
        loop {
            self.watched.readable(false).await?;
            match rustix::io::read(&self.counter, &mut [0_u8; RINGS_READ]) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
