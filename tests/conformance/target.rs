//! The broker that a case connects to: its address, the protocol version, and names that no other case uses.

#![expect(clippy::disallowed_types, reason = "cases run on several threads and share the brokers under test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use libtest_mimic::Failed;

use crate::case::Case;
use crate::harness::broker::{Broker, Io, Setup};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::websocket::tunnel;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// The parameter of a scenario.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) version: Version,
    scope: String,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, case: &Case) -> Self {
        // At most 23 bytes with a short suffix, so that a name can also be a client identifier.
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let scope = format!("c{:x}x{number}", std::process::id());
        Self { address, version: case.version, scope }
    }

    /// A topic or client identifier that no other case uses: letters and digits, and `suffix`.
    pub(crate) fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.scope)
    }

    /// A TCP connection without any packet yet.
    pub(crate) fn open(&self) -> Peer {
        Peer::open(self.address, self.version)
    }

    /// A client with a clean session, connected.
    pub(crate) fn client(&self, suffix: &str) -> Peer {
        self.connect(&Connect::new(self.version, &self.name(suffix)))
    }

    /// A connected client whose session outlives the connection; the session is resumed if it exists.
    pub(crate) fn persistent(&self, suffix: &str) -> Peer {
        self.connect(&Connect::persistent(self.version, &self.name(suffix)))
    }

    /// Connects, and asserts that the broker accepts.
    pub(crate) fn connect(&self, connect: &Connect<'_>) -> Peer {
        Peer::connect(self.address, connect)
    }
}

/// Our brokers started so far, one for each combination of settings; shared by the cases.
#[derive(Clone, Default)]
pub(crate) struct Brokers(Arc<Mutex<BTreeMap<String, (Broker, SocketAddr)>>>);

/// The way to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    /// Through a tunnel, whose address is the broker's for a case.
    WebSocket,
}

impl Brokers {
    /// Address of the broker with these settings; the first call starts it.
    ///
    /// # Errors
    /// If a broker could not be started before.
    pub(crate) fn address(
        &self,
        io: Io,
        shards: &str,
        flags: &[&str],
        transport: Transport,
    ) -> Result<SocketAddr, Failed> {
        let mut brokers = self.0.lock().map_err(|_| "a broker did not start")?;
        let key = format!("{} {shards} {} {transport:?}", io.flag(), flags.join(" "));
        let (_, address) = brokers.entry(key).or_insert_with(|| {
            let flags = [&["--shards", shards], flags].concat();
            match transport {
                Transport::Tcp => {
                    let broker = Broker::start_with(&Setup { io, flags: &flags, ..Setup::default() });
                    let address = broker.address();
                    (broker, address)
                }
                Transport::WebSocket => {
                    let broker = Broker::listen(
                        io,
                        "[[listener]]\nbind = [\"127.0.0.1\"]\nport = 0\nwebsocket = {}\n",
                        &flags,
                    );
                    let address = tunnel(broker.address());
                    (broker, address)
                }
            }
        });
        Ok(*address)
    }

    /// Stops all brokers: each must still be running, and end cleanly.
    ///
    /// # Errors
    /// If a broker died or did not stop cleanly.
    pub(crate) fn stop(&self) -> Result<(), String> {
        let mut brokers = self.0.lock().map_err(|_| "a broker did not start")?;
        for (key, (mut broker, _)) in std::mem::take(&mut *brokers) {
            if !broker.process().is_running() {
                return Err(format!("the broker `{key}` died:\n{}", broker.process().output()));
            }
            let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| broker.stop()));
            stopped.map_err(|_| format!("the broker `{key}` did not stop cleanly"))?;
        }
        Ok(())
    }
}
