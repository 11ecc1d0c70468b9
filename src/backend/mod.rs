//! Backends: they turn I/O into events of the engine, and its actions into I/O. `host` is the part that all shards
//! share, `tasks` the part of shards whose connections are tasks; `monoio`, `tokio` and `blocking` are one kind of I/O
//! each.
//! A backend moves bytes. It parses no packet: received bytes go to the engine, and sent bytes come from its outboxes.

mod blocking;
mod direct;
mod doorbell;
mod host;
#[cfg(unix)]
mod monoio;
mod tasks;
mod tokio;

use std::io;

use crossbeam_channel::{Receiver, Sender};
use engine::Engine;
use ring::Port;

use crate::auth::Authenticator;
use crate::config::Io;
use crate::error::StartupError;
use crate::net::listen::{ListenerTables, Listening};
use crate::net::permits::ConnectionPermits;
use crate::observe::connection_log::ConnectionLog;
use crate::persist::subscriptions_file::Feed;
use crate::process::clock::Clock;
use crate::shard::control::Control;
use crate::shard::gauges::Gauges;
use crate::shard::memory_share::MemoryShare;

use doorbell::Doorbell;
pub(crate) use doorbell::Doorbells;
pub(crate) use host::{CAPACITY, ClientIds, Journal, LaneItem};

/// The resources of a shard when its thread starts.
pub(crate) struct Parts {
    pub(crate) number: u16,
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) listeners: Vec<Listening>,
    /// Whether the shard distributes accepted connections to all shards in turn.
    pub(crate) distributes: bool,
    /// The tables of the listeners, by number.
    pub(crate) tables: ListenerTables,
    /// Bytes that layers may hold for peers before they are open.
    pub(crate) unjudged_bytes_max: usize,
    pub(crate) read_buffer_bytes: usize,
    pub(crate) port: Port<LaneItem>,
    pub(crate) doorbells: Doorbells,
    pub(crate) permits: ConnectionPermits,
    pub(crate) gauges: Gauges,
    pub(crate) memory: MemoryShare,
    pub(crate) control: Receiver<Control>,
    pub(crate) authenticator: Authenticator,
    /// Receives a message once every other shard has received the subscriptions of this one.
    pub(crate) settled: Sender<()>,
    pub(crate) feed: Feed,
    pub(crate) log: ConnectionLog,
    /// The log of the shard; `None` if nothing outlives the process.
    pub(crate) journal: Option<Box<Journal>>,
}

/// The backend that a shard has selected and started.
#[derive(Debug)]
pub(crate) struct SelectedBackend {
    /// Never `Auto`.
    pub(crate) io: Io,
    /// The reason why `io_uring` is not used, if it was tried.
    pub(crate) fallback: Option<io::Error>,
}

/// The backend of one shard before its thread runs, with the receiving end of its doorbell.
pub(crate) enum Backend {
    #[cfg(unix)]
    Monoio(Io, monoio::DoorbellDescriptor),
    Tokio(tokio::DoorbellReceiver),
    Blocking(blocking::Inbox),
}

impl Backend {
    /// The backends of all shards, and their doorbells.
    ///
    /// # Errors
    /// If this system has no such I/O, or refuses the doorbells.
    pub(crate) fn prepare(io: Io, shard_count: u16) -> Result<(Vec<Self>, Doorbells), StartupError> {
        let made: Result<Vec<(Self, Doorbell)>, _> = (0..shard_count).map(|_| Self::new(io)).collect();
        let (backends, doorbells): (Vec<Self>, Vec<Doorbell>) = made?.into_iter().unzip();
        Ok((backends, doorbells.into_iter().collect()))
    }

    /// The most accepts on one listener that can be under way at the same time.
    pub(crate) fn accepts_outstanding(io: Io) -> usize {
        match io {
            #[cfg(unix)]
            Io::Auto | Io::Uring => monoio::ACCEPT_TASKS,
            #[cfg(not(unix))]
            Io::Auto | Io::Uring => 1,
            Io::Epoll | Io::Tokio | Io::Blocking => 1,
        }
    }

    /// Selects the backend for an `io`; no other place does.
    fn new(io: Io) -> Result<(Self, Doorbell), StartupError> {
        match io {
            #[cfg(unix)]
            Io::Auto | Io::Uring | Io::Epoll => {
                let (descriptor, doorbell) = monoio::DoorbellDescriptor::new()
                    .map_err(|error| StartupError::system("create the doorbell of a shard", error))?;
                Ok((Self::Monoio(io, descriptor), Doorbell::Monoio(doorbell)))
            }
            #[cfg(not(unix))]
            Io::Uring => Err(StartupError::io_uring(io::Error::new(
                io::ErrorKind::Unsupported,
                "only Linux has io_uring",
            ))),
            #[cfg(not(unix))]
            Io::Epoll => {
                let error = io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this system has no epoll: start with --io auto",
                );
                Err(StartupError::system("serve on epoll", error))
            }
            #[cfg(not(unix))]
            Io::Auto => Ok(Self::on_tokio()),
            Io::Tokio => Ok(Self::on_tokio()),
            Io::Blocking => {
                let (inbox, doorbell) = blocking::Inbox::new();
                Ok((Self::Blocking(inbox), Doorbell::Blocking(doorbell)))
            }
        }
    }

    fn on_tokio() -> (Self, Doorbell) {
        let (receiver, doorbell) = tokio::DoorbellReceiver::new();
        (Self::Tokio(receiver), Doorbell::Tokio(doorbell))
    }

    /// Serves on the calling thread until the shard is stopped. `report` receives the selected backend, or the reason
    /// why there is none.
    ///
    /// # Errors
    /// An error of the system between that report and the first connection.
    pub(crate) fn run(
        self,
        parts: Parts,
        report: impl FnOnce(Result<SelectedBackend, StartupError>),
    ) -> Result<(), StartupError> {
        match self {
            #[cfg(unix)]
            Self::Monoio(io, descriptor) => match monoio::build(io) {
                Ok(mut built) => {
                    report(Ok(SelectedBackend { io: built.io, fallback: built.fallback.take() }));
                    monoio::run(built, descriptor, parts)
                }
                Err(error) => {
                    report(Err(error));
                    Ok(())
                }
            },
            Self::Blocking(inbox) => {
                report(Ok(SelectedBackend { io: Io::Blocking, fallback: None }));
                blocking::run(&inbox, parts)
            }
            Self::Tokio(doorbell) => match tokio::build() {
                Ok(runtime) => {
                    report(Ok(SelectedBackend { io: Io::Tokio, fallback: None }));
                    tokio::run(&runtime, doorbell, parts)
                }
                Err(error) => {
                    report(Err(error));
                    Ok(())
                }
            },
        }
    }
}
