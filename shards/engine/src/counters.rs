//! The counters of one shard.
//!
//! Invariant: a total only grows from step to step, so a reader may take differences. Within a step a count may be taken back. Gauges are computed when they are read.

use crate::cause::CauseGroup;
use crate::drop_watch::DropWatch;

/// Why a matched message did not reach a session. Each has a counter; nothing is dropped without one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// Its Message Expiry Interval passed while it waited [MQTT-3.3.2-5].
    Expired,
    /// The session's queue was full.
    QueueFull,
    /// QoS 0 to a reader that is `outbox_bytes_max` behind.
    OutboxFull,
    /// QoS 0 to a session without a connection.
    Offline,
    /// Longer than the client's Maximum Packet Size [MQTT-3.1.2-25].
    PacketTooLarge,
    /// The session ended with the message queued or in flight.
    SessionEnded,
    /// QoS 0 not yet accepted by the kernel when the connection ended.
    ConnectionLost,
    /// The client refused it with a Reason Code of 0x80 or more [MQTT-4.4.0-2].
    Refused,
    /// A shared subscription had no member that could take it.
    NoMember,
    /// It was reassigned to another member of its group, where it counts as matched once more: the session ended, or left
    /// the group.
    Reassigned,
    /// QoS 0 taken back from the outbox of a slow reader, because memory was short.
    Memory,
    /// The rules came to forbid it to the client while it waited.
    Denied,
}

impl DropReason {
    /// Every reason, in the order of [`DropReason::index`].
    pub const ALL: [Self; 12] = [
        Self::Expired,
        Self::QueueFull,
        Self::OutboxFull,
        Self::Offline,
        Self::PacketTooLarge,
        Self::SessionEnded,
        Self::ConnectionLost,
        Self::Refused,
        Self::NoMember,
        Self::Reassigned,
        Self::Memory,
        Self::Denied,
    ];

    /// Position in [`DropReason::ALL`] and in [`Counters::dropped`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name under which it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::QueueFull => "queue_full",
            Self::OutboxFull => "outbox_full",
            Self::Offline => "offline",
            Self::PacketTooLarge => "packet_too_large",
            Self::SessionEnded => "session_ended",
            Self::ConnectionLost => "connection_lost",
            Self::Refused => "refused",
            Self::NoMember => "no_member",
            Self::Reassigned => "moved",
            Self::Denied => "denied",
            Self::Memory => "memory",
        }
    }
}

/// Totals of one shard since it started.
#[derive(Clone, Default, Debug)]
pub struct Counters {
    /// Packets received from clients, of every type.
    pub packets_received: u64,
    /// Packets put into outboxes, other than PUBLISH.
    pub control_packets_sent: u64,
    /// PUBLISH packets received from clients.
    pub messages_received: u64,
    /// PUBLISH packets put into outboxes.
    pub messages_sent: u64,
    /// Payload bytes of PUBLISH packets received from clients.
    pub payload_bytes_received: u64,
    /// Payload bytes of PUBLISH packets put into outboxes.
    pub payload_bytes_sent: u64,
    /// Bytes received from peers.
    pub bytes_received: u64,
    /// Bytes the kernel accepted for peers.
    pub bytes_sent: u64,
    /// Deliveries due: one for each session and message.
    pub matched: u64,
    /// Deliveries made: accepted by the kernel (QoS 0) or acknowledged (QoS 1 and 2).
    pub delivered: u64,
    /// Deliveries dropped, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Publishes refused before any session was matched: memory, retained store, topic depth.
    pub publishes_refused: u64,
    /// Packets that waited for room in the log.
    pub log_waits: u64,
    /// Pauses of connections whose clients published faster than they may.
    pub rate_pauses: u64,
    /// Connections ended for a long partial packet while memory was short.
    pub partial_packets_refused: u64,
    /// Publishes of clients to the broker's own topics, which clients may not write.
    pub publishes_denied: u64,
    /// Publishes of clients that the rules forbid.
    pub publishes_forbidden: u64,
    /// Subscriptions that the rules forbid.
    pub subscriptions_forbidden: u64,
    /// Wills that were due and that the rules forbid by then.
    pub wills_forbidden: u64,
    /// Messages that matched a subscription of a session that may not read them. They are never owed, so no ledger has them.
    pub reads_denied: u64,
    /// Retained messages that matched a subscription, and that their source may not publish any more. Each time counts.
    pub retained_unread: u64,
    /// Publishes that matched no subscription.
    pub publishes_unmatched: u64,
    /// Nodes of the topic tree that publishes visited; none where the match cache knew the topic.
    pub topic_nodes_visited: u64,
    /// Publishes that visited at least 512 nodes of the topic tree.
    pub long_matches: u64,
    /// Filters refused because of `Limits::match_nodes_max`.
    pub filters_refused: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections turned away because the process was full.
    pub connections_refused: u64,
    /// CONNECT packets that could be read, accepted or not.
    pub connects_received: u64,
    /// Clients that were let in with a user name or password that nothing checked.
    pub credentials_ignored: u64,
    /// Connections closed for a malformed packet or a protocol error.
    pub protocol_errors: u64,
    /// Clients that failed to authenticate, at CONNECT or later.
    pub authentications_failed: u64,
    /// Sessions that ended because their expiry interval had passed.
    pub sessions_expired: u64,
    /// Sessions taken over by a second connection.
    pub take_overs: u64,
    /// Connections that have ended: the sum of `closed` and `refused`.
    pub ended: u64,
    /// Clients that were let in and whose connection has ended, by [`CauseGroup::index`].
    pub closed: [u64; CauseGroup::COUNT],
    /// Connections that ended before a client was let in, by [`CauseGroup::index`].
    pub refused: [u64; CauseGroup::COUNT],
    /// Connections that the operator closed.
    pub closed_by_operator: u64,
    /// Messages sent to other shards, one for each shard.
    pub messages_forwarded: u64,
    /// Messages of other shards that no subscription here matched any more.
    pub forwarded_unmatched: u64,
    /// Retained messages of other shards' publishers for which the store had no room.
    pub retained_refused: u64,
    /// Retained messages that left the store because their Message Expiry Interval had passed.
    pub retained_expired: u64,
    /// Connections handed over to the shard of their session.
    pub handed_over: u64,
    /// Completions and acknowledgements that named a connection or session of an earlier generation.
    pub stale: u64,
    drop_watch: DropWatch,
}

impl Counters {
    /// The watch on sessions that lose messages.
    pub(crate) fn drop_watch(&mut self) -> &mut DropWatch {
        &mut self.drop_watch
    }

    /// Deliveries dropped for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }
}
