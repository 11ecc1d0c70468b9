//! An ordinary client beside the attack: it publishes to itself at a steady rate and measures how long each message takes.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::cores::go_first;
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::now;

/// The pause between two messages.
const PAUSE: Duration = Duration::from_millis(2);

/// A neighbour that runs until it is stopped.
pub(crate) struct Neighbour {
    /// It runs as long as this lives.
    running: Sender<()>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    /// Starts a neighbour with a name of its own.
    pub(crate) fn start(address: SocketAddr, name: &str) -> Self {
        let (running, is_running) = mpsc::channel();
        let name = name.to_owned();
        let thread = thread::spawn(move || {
            go_first();
            let mut peer = Peer::connect(address, &Connect::new(Version::V5, &name));
            peer.subscribe(&name, 0);
            let packet = Publish::new(&name, 0, b"beside").encode(Version::V5);
            let mut latencies = Vec::new();
            while is_running.try_recv() == Err(TryRecvError::Empty) {
                let sent = now();
                peer.send(&packet);
                peer.next_publish();
                latencies.push(now() - sent);
                thread::sleep(PAUSE);
            }
            latencies
        });
        Self { running, thread }
    }

    /// Ends it. Returns the latencies that it saw, in ascending order.
    pub(crate) fn stop(self) -> Vec<Duration> {
        drop(self.running);
        let mut latencies = self.thread.join().expect("the neighbour was served");
        latencies.sort_unstable();
        latencies
    }

    /// The latencies of a neighbour that runs for `time`.
    pub(crate) fn measure(address: SocketAddr, name: &str, time: Duration) -> Vec<Duration> {
        let neighbour = Self::start(address, name);
        thread::sleep(time);
        neighbour.stop()
    }
}

/// A percentile of ascending latencies.
pub(crate) fn percentile(latencies: &[Duration], percent: usize) -> Duration {
    latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)]
}
