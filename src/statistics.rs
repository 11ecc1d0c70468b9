//! The statistics block on standard output, in the form that operators' scripts read.
//! Counts nothing: the shards do.

use std::io::{self, Write};

use tracing::{debug, warn};

use crate::notify;

/// Sums over all shards. Gauges say what is now; the others only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Connections now (gauge).
    pub(crate) connections: u64,
    /// Most connections at once, as configured.
    pub(crate) connections_max: u64,
    /// PUBLISH packets received from clients.
    pub(crate) messages_received: u64,
    /// PUBLISH packets sent to clients.
    pub(crate) messages_sent: u64,
    /// Subscriptions of all sessions now (gauge).
    pub(crate) subscriptions: u64,
    /// Sessions now, connected or not (gauge).
    pub(crate) sessions: u64,
    /// Retained messages now (gauge).
    pub(crate) retained_messages: u64,
    /// Messages that matched a session and were dropped for it, for whatever reason.
    pub(crate) dropped: u64,
}

impl Totals {
    /// `1234/10000 (12.3%)`.
    pub(crate) fn connections_of_max(&self) -> String {
        // Tenths of a percent, rounded, in integers: a ratio of counts needs no floating point.
        let max = self.connections_max.max(1);
        let tenths = (self.connections.saturating_mul(1_000) + max / 2) / max;
        format!("{}/{} ({}.{}%)", self.connections, self.connections_max, tenths / 10, tenths % 10)
    }

    fn block(&self) -> String {
        format!(
            "[STATS] Connections: {}\n[STATS] Messages: {} received, {} sent\n[STATS] Subscriptions: {}\n",
            self.connections_of_max(),
            self.messages_received,
            self.messages_sent,
            self.subscriptions
        )
    }
}

/// What the operator was told so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    dropped: u64,
}

impl Report {
    /// Prints the block on standard output, tells the service manager its first line, and warns if messages
    /// were dropped since this was last called.
    pub(crate) fn tell(&mut self, totals: &Totals) {
        // One write, so that no log line stands inside the block. A closed standard output is no reason to
        // stop serving.
        let mut output = io::stdout().lock();
        let _ = output.write_all(totals.block().as_bytes()).and_then(|()| output.flush());
        drop(output);
        notify::status(&format!("Connections: {}", totals.connections_of_max()));
        debug!(sessions = totals.sessions, retained_messages = totals.retained_messages, "totals");
        if totals.dropped > self.dropped {
            let since_last = totals.dropped - self.dropped;
            warn!(since_last, total = totals.dropped, "messages dropped");
            self.dropped = totals.dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_has_exactly_the_form_that_scripts_read() {
        let totals = Totals {
            connections: 1_234,
            connections_max: 10_000,
            messages_received: 45_678,
            messages_sent: 123_456,
            subscriptions: 5_678,
            ..Totals::default()
        };
        assert_eq!(
            totals.block(),
            "[STATS] Connections: 1234/10000 (12.3%)\n\
             [STATS] Messages: 45678 received, 123456 sent\n\
             [STATS] Subscriptions: 5678\n"
        );
    }

    #[test]
    fn shares_are_rounded_to_a_tenth_of_a_percent() {
        let check = |connections, connections_max, expected: &str| {
            let totals = Totals { connections, connections_max, ..Totals::default() };
            assert_eq!(totals.connections_of_max(), expected);
        };
        check(0, 10_000, "0/10000 (0.0%)");
        check(1, 10_000, "1/10000 (0.0%)");
        check(5, 10_000, "5/10000 (0.1%)");
        check(9_999, 10_000, "9999/10000 (100.0%)");
        check(10_000, 10_000, "10000/10000 (100.0%)");
        check(1, 3, "1/3 (33.3%)");
    }
}
