//! The broker a case talks to: where it listens, which version is spoken, and names that no other case uses.
//! Knows no packet beyond what it takes to connect.

#![expect(
    clippy::disallowed_types,
    reason = "cases run on several threads and share the brokers that they judge"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use libtest_mimic::Failed;

use crate::case::Case;
use crate::harness::broker::{Broker, Io, Setup};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// What a scenario is given.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) version: Version,
    scope: String,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, case: &Case) -> Self {
        // No longer than 23 bytes with a short suffix, so that a name does for a client identifier as well.
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let scope = format!("c{:x}x{number}", std::process::id());
        Self { address, version: case.version, scope }
    }

    /// A topic or client identifier that no other case uses: letters and digits, and `suffix`.
    pub(crate) fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.scope)
    }

    /// A connection on which nothing was said yet.
    pub(crate) fn open(&self) -> Peer {
        Peer::open(self.address, self.version)
    }

    /// A client with a clean session, connected.
    pub(crate) fn client(&self, suffix: &str) -> Peer {
        self.connect(&Connect::new(self.version, &self.name(suffix)))
    }

    /// A client whose session outlives its connection; it is resumed if it is there.
    pub(crate) fn keeper(&self, suffix: &str) -> Peer {
        self.connect(&Connect::persistent(self.version, &self.name(suffix)))
    }

    /// Connects, and asserts that the broker accepts.
    pub(crate) fn connect(&self, connect: &Connect<'_>) -> Peer {
        Peer::connect(self.address, connect)
    }
}

/// Brokers of ours that were started so far, one for each way of starting; shared by the cases.
#[derive(Clone, Default)]
pub(crate) struct Brokers(Arc<Mutex<BTreeMap<String, Broker>>>);

impl Brokers {
    /// Where the broker that was started this way listens; it is started at the first call.
    ///
    /// # Errors
    /// When one of them could not be started before.
    pub(crate) fn address(&self, io: Io, shards: &str, flags: &[&str]) -> Result<SocketAddr, Failed> {
        let mut brokers = self.0.lock().map_err(|_| "a broker did not start")?;
        let key = format!("{} {shards} {}", io.flag(), flags.join(" "));
        let broker = brokers.entry(key).or_insert_with(|| {
            let flags = [&["--shards", shards], flags].concat();
            Broker::start_with(&Setup { io, flags: &flags, ..Setup::default() })
        });
        Ok(broker.address())
    }

    /// Stops all of them: each must have lived until now, and end cleanly.
    ///
    /// # Errors
    /// When one of them died, or did not stop as it should.
    pub(crate) fn stop(&self) -> Result<(), String> {
        let mut brokers = self.0.lock().map_err(|_| "a broker did not start")?;
        for (key, mut broker) in std::mem::take(&mut *brokers) {
            if !broker.process().is_running() {
                return Err(format!("the broker `{key}` died:\n{}", broker.process().output()));
            }
            let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| broker.stop()));
            stopped.map_err(|_| format!("the broker `{key}` did not stop cleanly"))?;
        }
        Ok(())
    }
}
