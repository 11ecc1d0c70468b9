//! Events in, actions out. `host` is what every shard does, `tasks` what those do whose connections are tasks; each I/O
//! world has a folder of its own.
//! Knows no packet: bytes go to the engine and come from its outboxes.

mod blocking;
#[cfg(unix)]
mod direct;
mod doorbell;
mod host;
#[cfg(unix)]
mod monoio;
mod tasks;
mod tokio;

use std::io;
use std::net::TcpListener;

use crossbeam_channel::{Receiver, Sender};
use engine::Engine;
use ring::Port;

use crate::config::Io;
use crate::error::Trouble;
use crate::net::permits::Places;
use crate::persist::subscriptions_file::Feed;
use crate::process::clock::Clock;
use crate::shard::control::Control;
use crate::shard::gauges::Gauges;

use doorbell::Bell;
pub(crate) use doorbell::Bells;
pub(crate) use host::{Beside, CAPACITY};

/// What a shard is given when its thread starts.
pub(crate) struct Parts {
    pub(crate) number: u16,
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) listeners: Vec<TcpListener>,
    /// Whether it deals what it accepts to all shards in turn.
    pub(crate) deals: bool,
    pub(crate) read_buffer_bytes: usize,
    pub(crate) port: Port<Beside>,
    pub(crate) bells: Bells,
    pub(crate) places: Places,
    pub(crate) gauges: Gauges,
    pub(crate) control: Receiver<Control>,
    /// Told once every other shard knows what this one subscribes to.
    pub(crate) settled: Sender<()>,
    pub(crate) feed: Feed,
}

/// What a shard's bytes move on, once that stands.
#[derive(Debug)]
pub(crate) struct Stands {
    /// Never `Auto`.
    pub(crate) io: Io,
    /// Why `io_uring` was passed over, if it was.
    pub(crate) fallback: Option<io::Error>,
}

/// One shard's backend before its thread runs, with its end of the doorbell.
pub(crate) enum Backend {
    #[cfg(unix)]
    Monoio(Io, monoio::Counter),
    Tokio(tokio::Doorbell),
    Blocking(blocking::Inbox),
}

impl Backend {
    /// Those of all shards, and what wakes each.
    ///
    /// # Errors
    /// If this system has no such I/O, or refuses the doorbells.
    pub(crate) fn prepare(io: Io, shard_count: u16) -> Result<(Vec<Self>, Bells), Trouble> {
        let made: Result<Vec<(Self, Bell)>, _> = (0..shard_count).map(|_| Self::new(io)).collect();
        let (backends, bells): (Vec<Self>, Vec<Bell>) = made?.into_iter().unzip();
        Ok((backends, bells.into_iter().collect()))
    }

    /// The one place that says which backend an `io` means.
    fn new(io: Io) -> Result<(Self, Bell), Trouble> {
        match io {
            #[cfg(unix)]
            Io::Auto | Io::Uring | Io::Epoll => {
                let (counter, bell) = monoio::Counter::new()
                    .map_err(|error| Trouble::system("make the doorbell of a shard", error))?;
                Ok((Self::Monoio(io, counter), Bell::Monoio(bell)))
            }
            #[cfg(not(unix))]
            Io::Uring => {
                Err(Trouble::io_uring(io::Error::new(io::ErrorKind::Unsupported, "only Linux has it")))
            }
            #[cfg(not(unix))]
            Io::Epoll => {
                let error =
                    io::Error::new(io::ErrorKind::Unsupported, "there is none here: start with --io auto");
                Err(Trouble::system("serve on epoll", error))
            }
            #[cfg(not(unix))]
            Io::Auto => Ok(Self::on_tokio()),
            Io::Tokio => Ok(Self::on_tokio()),
            Io::Blocking => {
                let (inbox, bell) = blocking::Inbox::new();
                Ok((Self::Blocking(inbox), Bell::Blocking(bell)))
            }
        }
    }

    fn on_tokio() -> (Self, Bell) {
        let (doorbell, bell) = tokio::Doorbell::new();
        (Self::Tokio(doorbell), Bell::Tokio(bell))
    }

    /// Serves on the calling thread until the shard is told to stop. `stands` is told what it serves on, or why it cannot.
    ///
    /// # Errors
    /// What the system refuses after that and before the first connection.
    pub(crate) fn run(
        self,
        parts: Parts,
        stands: impl FnOnce(Result<Stands, Trouble>),
    ) -> Result<(), Trouble> {
        match self {
            #[cfg(unix)]
            Self::Monoio(io, counter) => match monoio::build(io) {
                Ok(mut built) => {
                    stands(Ok(Stands { io: built.io, fallback: built.fallback.take() }));
                    monoio::run(built, counter, parts)
                }
                Err(trouble) => {
                    stands(Err(trouble));
                    Ok(())
                }
            },
            Self::Blocking(inbox) => {
                stands(Ok(Stands { io: Io::Blocking, fallback: None }));
                blocking::run(&inbox, parts)
            }
            Self::Tokio(doorbell) => match tokio::build() {
                Ok(runtime) => {
                    stands(Ok(Stands { io: Io::Tokio, fallback: None }));
                    tokio::run(&runtime, doorbell, parts)
                }
                Err(trouble) => {
                    stands(Err(trouble));
                    Ok(())
                }
            },
        }
    }
}
