//! The events of a run, as a digest of all and the text of the last ones.

use std::collections::VecDeque;
use std::fmt;

const EVENTS_KEPT: usize = 120;

#[derive(Clone, Copy, Debug)]
struct Entry {
    stamp: u64,
    now_ms: u64,
    what: &'static str,
    numbers: [u64; 4],
}

/// The events of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    /// Counts events; defines their order.
    stamp: u64,
    last: VecDeque<Entry>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, stamp: 0, last: VecDeque::new() }
    }

    /// Records an event and returns its stamp.
    pub(crate) fn note(&mut self, now_ms: u64, what: &'static str, numbers: [u64; 4]) -> u64 {
        self.stamp += 1;
        for byte in what.bytes() {
            self.mix(u64::from(byte));
        }
        self.mix(now_ms);
        for number in numbers {
            self.mix(number);
        }
        if self.last.len() == EVENTS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(Entry { stamp: self.stamp, now_ms, what, numbers });
        self.stamp
    }

    fn mix(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn last_events(&self) -> Vec<String> {
        let line = |entry: &Entry| {
            let Entry { stamp, now_ms, what, numbers } = entry;
            format!("{stamp:>7} {now_ms:>8} ms {what:<24} {numbers:?}")
        };
        self.last.iter().map(line).collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // An assertion of the engine failed: the events before it are needed to explain it.
        if std::thread::panicking() {
            for line in self.last_events() {
                eprintln!("{line}");
            }
        }
    }
}

/// The result of a run without a violation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Digest of all events, in order.
    pub digest: u64,
    /// Events that happened.
    pub event_count: u64,
    /// Messages published.
    pub message_count: u64,
    /// Messages forwarded between shards.
    pub forwarded_count: u64,
    /// Connections handed over between shards.
    pub handed_over_count: u64,
    /// Sessions taken over.
    pub take_over_count: u64,
    /// Messages that slow readers lost because memory was short.
    pub shed_count: u64,
    /// Crashes of the broker.
    pub crash_count: u64,
    /// Checkpoints that took the place of a log.
    pub checkpoint_count: u64,
    /// Logs that a disk failed.
    pub poison_count: u64,
    /// Records that starts read.
    pub record_count: u64,
}

/// A violated guarantee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The seed that reproduces it.
    pub seed: u64,
    /// The violated guarantee.
    pub what: String,
    /// The last events.
    pub last_events: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last_events {
            writeln!(formatter, "{line}")?;
        }
        write!(formatter, "SEED={:#x}: {}", self.seed, self.what)
    }
}
