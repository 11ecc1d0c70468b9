//! The answers to an operator. Rows carry the texts of peers as they are: a terminal is kept from them where they are printed.
//! Invariant: an answer has at most [`ROWS_MAX`] rows, and no row after the one with which their texts reach [`PAGE_TEXT_BYTES`]. So a
//! shard holds a bounded answer, and a list goes on in the next one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::inside::{CertificateRow, KeyRow, LogLine, ShardRow};
use super::request::PAYLOAD_BYTES_MAX;
use crate::config::diff::Difference;
use crate::drain::DrainRow;
use crate::net::bans::Ban;
use crate::observe::closings::Closed;
use crate::observe::packet_trace::TraceRow;
use crate::observe::refusals::{REFUSALS_MAX, Refusal};

/// Rows of one answer.
pub(crate) const ROWS_MAX: usize = 256;

const _: () = assert!(REFUSALS_MAX <= ROWS_MAX);

/// Bytes of text after which a page takes no further row.
const PAGE_TEXT_BYTES: usize = 131_072;

/// Bytes of a row beside its texts.
const ROW_BYTES_MAX: usize = 2_048;

/// Longer than every answer: a page, its last row with four of the longest texts of MQTT, and a payload in base64. JSON escapes a byte
/// by six.
pub(super) const ANSWER_BYTES_MAX: usize = ROWS_MAX * ROW_BYTES_MAX
    + 6 * (PAGE_TEXT_BYTES + 4 * u16::MAX as usize)
    + PAYLOAD_BYTES_MAX.div_ceil(3) * 4;

/// The answer of the broker, or of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Every shard has answered.
    Healthy,
    /// Every shard has answered, and the log of one has no room for what follows.
    JournalDegraded,
    /// Every shard has answered, and the log of one has failed.
    JournalFailed,
    /// The client was connected, and is being disconnected.
    Disconnected,
    /// The client was not connected.
    NotConnected,
    /// It was done.
    Done,
    /// There is no such session.
    NoSession,
    /// There is no such retained message.
    NoMessage,
    /// Sessions, and the shard and slot where the next request goes on; `None` at the end.
    Sessions {
        /// One row for each.
        rows: Vec<SessionRow>,
        /// The place of the next ones.
        next: Option<(u16, u32)>,
    },
    /// Clients, and the shard and slot where the next request goes on; `None` at the end.
    Clients {
        /// One row for each.
        rows: Vec<ClientRow>,
        /// The place of the next ones.
        next: Option<(u16, u32)>,
    },
    /// Everything about a client: its session, if it has one, and its last end, if that is remembered.
    Client {
        /// The session.
        session: Option<Box<ClientRow>>,
        /// The end.
        last_end: Option<Box<Closed>>,
    },
    /// Subscriptions, and the shard and slot where the next request goes on; `None` at the end.
    Subscriptions {
        /// One row for each.
        rows: Vec<SubscriptionRow>,
        /// The place of the next ones.
        next: Option<(u16, u32)>,
    },
    /// The list has changed where it was to go on.
    Changed,
    /// Receivers of a topic, and the place where the next request goes on; `None` at the end.
    Receivers {
        /// One row for each subscription.
        rows: Vec<ReceiverRow>,
        /// The shard, and the place there.
        next: Option<(u16, (u32, u32, u32))>,
    },
    /// Retained messages, and the place where the next request goes on; `None` at the end.
    Retained {
        /// One row for each.
        rows: Vec<RetainedRow>,
        /// The shard, and the topic there behind which the list goes on.
        next: Option<(u16, Option<String>)>,
    },
    /// A retained message, with its payload in base64; `None` if that is longer than [`PAYLOAD_BYTES_MAX`].
    RetainedMessage {
        /// The message.
        row: RetainedRow,
        /// The payload.
        payload: Option<String>,
    },
    /// The message was refused, by the limits of the broker or for lack of memory.
    Refused,
    /// Refusals, the oldest first.
    Refusals(Vec<Refusal>),
    /// Ends of connections, the newest first.
    Closed {
        /// One row for each.
        rows: Vec<Closed>,
        /// The shard, and the number there before which the list goes on.
        next: Option<(u16, Option<u64>)>,
    },
    /// The configuration was read, or taken back.
    Reloaded {
        /// The number of the generation in force.
        generation: u64,
        /// The keys that differ.
        differences: Vec<Difference>,
        /// The listeners whose certificates or lists have another content.
        listeners: Vec<String>,
    },
    /// The configuration has faults, so nothing has changed.
    Faults(Vec<String>),
    /// The counters.
    Statistics(Box<StatisticsRow>),
    /// Packets of a trace, the oldest first.
    Trace {
        /// One row for each.
        rows: Vec<TraceRow>,
        /// Packets that had to make room before they were shown.
        dropped: u64,
        /// Packets since the trace began that were too long to be shown, or not seen from their beginning.
        left_out: u64,
        /// The place where the list goes on.
        next: u64,
    },
    /// Each shard from within, in the order of their numbers.
    Shards {
        /// The bounds of the counts in `stages`, in microseconds. The last count is of the times above all of them.
        bounds_us: Vec<u64>,
        /// One for each shard.
        shards: Vec<ShardRow>,
    },
    /// Keys of the configuration in force, and the key behind which the list goes on; `None` at the end.
    Configuration {
        /// One row for each.
        rows: Vec<KeyRow>,
        /// The last one of them.
        next: Option<String>,
    },
    /// Certificates and lists of revoked ones.
    Certificates(Vec<CertificateRow>),
    /// Lines of the log, and the number of the next one.
    LastLines {
        /// The lines, the oldest first.
        rows: Vec<LogLine>,
        /// The number where the list goes on.
        next: u64,
    },
    /// How far the drain has come.
    Drain(DrainRow),
    /// Bans; none after the last one.
    Bans(Vec<Ban>),
    /// So many bans were lifted.
    Lifted(usize),
    /// The log of each shard; none without logs.
    Logs(Vec<LogRow>),
    /// The shard of the client is too busy to answer, or the broker is stopping.
    Busy,
    /// The request is invalid.
    NotUnderstood,
}

/// A session in short. Text of a peer is escaped and has at most 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    /// Its client identifier.
    pub(crate) client: String,
    /// The user that it belongs to; "" for nobody.
    pub(crate) user: String,
    /// Whether it has a connection.
    pub(crate) connected: bool,
    /// The address of the peer, if it is known.
    pub(crate) peer: Option<String>,
    /// Its subscriptions.
    pub(crate) subscriptions: u32,
    /// Messages that wait in its queue.
    pub(crate) queued: usize,
}

/// The log of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRow {
    /// The shard.
    pub(crate) shard: u16,
    /// The position of its checkpoint.
    pub(crate) checkpoint: Option<u64>,
    /// Bytes of that; 0 without one.
    pub(crate) checkpoint_bytes: u64,
    /// Another checkpoint was asked for, or is under way.
    pub(crate) is_checkpointing: bool,
    /// The last checkpoint could not be written, or the log has failed.
    pub(crate) has_refused: bool,
    /// The first and the last segment that are part of it; 0 and 0: none.
    pub(crate) segments: (u64, u64),
    /// Bytes of the last one that are part of it.
    pub(crate) last_bytes: u64,
    /// Files were kept already when this was asked.
    pub(crate) was_frozen: bool,
}

/// A client and its session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientRow {
    /// Its identifier.
    pub(crate) client: String,
    /// The user that the session belongs to.
    pub(crate) user: Option<String>,
    /// The number of the shard where it lives.
    pub(crate) shard: u16,
    /// Whether it has a connection. The next six are of that.
    pub(crate) connected: bool,
    /// The address of the peer, if it is known.
    pub(crate) peer: Option<String>,
    /// The name of the listener.
    pub(crate) listener: Option<String>,
    /// `3.1`, `3.1.1` or `5.0`.
    pub(crate) version: Option<String>,
    /// The beginning, in microseconds since 1970, to a tenth of a second.
    pub(crate) since_us: Option<u64>,
    /// The keep alive in force, in seconds; 0: none.
    pub(crate) keep_alive_s: Option<u16>,
    /// Packets that came from the client.
    pub(crate) packets_received: Option<u32>,
    /// Seconds that the session outlives its connection; 4294967295: it never ends.
    pub(crate) expiry_s: u32,
    /// Its subscriptions.
    pub(crate) subscriptions: u32,
    /// Messages of QoS 1 and 2 that were sent and are not acknowledged to their end.
    pub(crate) inflight: u16,
    /// Messages that wait in its queue.
    pub(crate) queued: usize,
    /// Bytes that wait for it.
    pub(crate) waiting_bytes: u64,
    /// Messages that matched its subscriptions.
    pub(crate) matched: u64,
    /// Messages that were delivered to it.
    pub(crate) delivered: u64,
    /// Messages that it lost, by reason; reasons without one are left out.
    pub(crate) dropped: BTreeMap<String, u64>,
}

/// A subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubscriptionRow {
    /// The client identifier of its session.
    pub(crate) client: String,
    /// The filter as the client sent it, `$share/NAME/` included.
    pub(crate) filter: String,
    /// The QoS that it grants at most.
    pub(crate) qos: u8,
    /// The client's own messages are left out.
    pub(crate) no_local: bool,
    /// Messages keep their retain flag.
    pub(crate) retain_as_published: bool,
    /// 0: retained messages are sent; 1: for a new subscription only; 2: they are not.
    pub(crate) retain_handling: u8,
    /// The Subscription Identifier.
    pub(crate) identifier: Option<u32>,
}

/// A session that is offered the messages of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReceiverRow {
    /// Its client identifier.
    pub(crate) client: String,
    /// The user that it belongs to.
    pub(crate) user: Option<String>,
    /// Whether it has a connection; without one, messages of QoS 1 and 2 wait in its queue.
    pub(crate) connected: bool,
    /// The filter that matches, without a share name.
    pub(crate) filter: String,
    /// The name of the group. One member of it is offered each message.
    pub(crate) group: Option<String>,
    /// The QoS that the subscription grants at most.
    pub(crate) qos: u8,
    /// Whether the rules let it read the topic. If not, it is sent nothing.
    pub(crate) may_read: bool,
}

/// A retained message, without its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetainedRow {
    /// Its topic.
    pub(crate) topic: String,
    /// Bytes of its payload.
    pub(crate) payload_bytes: usize,
    /// Its QoS.
    pub(crate) qos: u8,
    /// Seconds until it expires; `None`: never.
    pub(crate) expires_in_s: Option<u32>,
    /// The user who published it.
    pub(crate) user: Option<String>,
}

/// The counters of the broker, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatisticsRow {
    /// The version of the broker.
    pub(crate) version: String,
    /// When they were read, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// Seconds since the start.
    pub(crate) uptime_s: u64,
    /// Current connections, including those that move between two shards.
    pub(crate) connections: u64,
    /// The most there can be.
    pub(crate) connections_max: u64,
    /// Bytes that may be held; 0: no ceiling.
    pub(crate) memory_bytes_max: u64,
    /// The worst state of a shard's log.
    pub(crate) journal: String,
    /// The least severe level that is logged.
    pub(crate) log_level: String,
    /// Sums over all shards.
    pub(crate) totals: BTreeMap<String, u64>,
    /// Messages that clients lost, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Clients that were let in and closed, by reason.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Connections that ended before, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Bytes held, by kind.
    pub(crate) memory: BTreeMap<String, u64>,
    /// The counters of each shard, and the times of its thread: `lived_us` and `worked_us`, where the system tells them.
    pub(crate) shards: Vec<BTreeMap<String, u64>>,
}

/// Rows of one answer, up to its bounds.
#[derive(Debug)]
pub(crate) struct Page<R> {
    rows: Vec<R>,
    text_bytes: usize,
}

impl<R> Default for Page<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), text_bytes: 0 }
    }
}

impl<R> Page<R> {
    /// Takes a row with texts of so many bytes; `false`, and no row is made, if the page is full.
    pub(crate) fn take(&mut self, text_bytes: usize, row: impl FnOnce() -> R) -> bool {
        if self.rows.len() == ROWS_MAX || self.text_bytes >= PAGE_TEXT_BYTES {
            return false;
        }
        self.text_bytes += text_bytes;
        self.rows.push(row());
        true
    }

    /// The rows.
    pub(crate) fn into_rows(self) -> Vec<R> {
        self.rows
    }
}

impl Answer {
    /// The answers of two shards as one.
    pub(super) fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Refusals(mut refusals), Self::Refusals(others)) => {
                refusals.extend(others);
                refusals.sort_by_key(|refusal| refusal.at_us);
                refusals.drain(..refusals.len().saturating_sub(REFUSALS_MAX));
                Self::Refusals(refusals)
            }
            (Self::Logs(mut logs), Self::Logs(others)) => {
                logs.extend(others);
                Self::Logs(logs)
            }
            // The worst of their healths.
            (Self::JournalFailed, _) | (_, Self::JournalFailed) => Self::JournalFailed,
            (Self::JournalDegraded, _) | (_, Self::JournalDegraded) => Self::JournalDegraded,
            (one, _) => one,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_rows_until_it_has_enough_of_them_or_of_their_text() {
        let fill = |text_bytes| {
            let mut page = Page::default();
            let taken = (0..1_000).take_while(|number| page.take(text_bytes, || *number)).count();
            assert_eq!(page.into_rows().len(), taken);
            taken
        };
        assert_eq!(fill(0), ROWS_MAX);
        assert_eq!(fill(PAGE_TEXT_BYTES), 1);
        assert_eq!(fill(PAGE_TEXT_BYTES / 2 - 1), 3);
    }

    #[test]
    fn no_answer_is_longer_than_its_bound() {
        let long = "\u{1}".repeat(usize::from(u16::MAX));
        let mut page = Page::default();
        let row =
            || SubscriptionRow { client: long.clone(), filter: long.clone(), ..SubscriptionRow::default() };
        while page.take(2 * long.len(), row) {}
        let listed = Answer::Subscriptions { rows: page.into_rows(), next: Some((u16::MAX, u32::MAX)) };
        let row = RetainedRow { topic: long.clone(), user: Some(long.clone()), ..RetainedRow::default() };
        let payload = Some("x".repeat(PAYLOAD_BYTES_MAX.div_ceil(3) * 4));
        for answer in [listed, Answer::RetainedMessage { row, payload }] {
            let length = serde_json::to_vec(&answer).unwrap().len();
            assert!(length <= ANSWER_BYTES_MAX, "{length}");
        }
    }
}
