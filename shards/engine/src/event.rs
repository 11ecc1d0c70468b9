//! Events: everything that the host feeds a step, and how much of it was taken.
//! Invariant: an event names its connection by an identity with a generation, so a late one is counted and ignored.

use alloc::boxed::Box;

use wire::QoS;

use crate::action::Batch;
use crate::base::ids::ConnectionId;
use crate::connection::Refused;
use crate::connection::authenticate::Verdict;
use crate::limits::LiveLimits;
use crate::log_room::LogRoom;
use crate::mesh::outbound::InboundItem;
use crate::rules_in_force::SharedRules;
use crate::session::user::UserGrant;

/// Something that happened outside the engine.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Bytes arrived from a peer. [`Consumed`] says how many were taken. The host keeps the rest and
    /// offers it again, before anything newer, once [`crate::Action::Resume`] names the connection.
    Received {
        /// The connection of that peer.
        connection: ConnectionId,
        /// The bytes that follow the ones consumed before.
        bytes: &'a [u8],
    },
    /// The network connection is gone and nothing of its outbox is lent. Its identity ends here.
    Closed {
        /// The connection that ended.
        connection: ConnectionId,
        /// The side that ended it.
        by: ClosedBy,
    },
    /// The host has looked at the socket that [`crate::Action::Peek`] named.
    Peeked {
        /// The connection of that socket.
        connection: ConnectionId,
        /// Whether bytes of the peer, or its end, wait to be received.
        has_bytes: bool,
    },
    /// The host has found, as it looked at the socket that [`crate::Action::Peek`] named, that the peer has left: bytes that it sent
    /// before may wait there, and no more will come. To be told before [`Event::Peeked`].
    HungUp {
        /// The connection of that socket.
        connection: ConnectionId,
    },
    /// The host did not look at its sockets for much longer than it had planned. Until [`Event::CaughtUp`] no timer brings an
    /// end, and every byte of a peer counts as a sign of life, not only a whole packet.
    Paused {
        /// The whole machine was suspended, so that nothing could arrive: the silence of every peer begins anew.
        was_suspended: bool,
    },
    /// The host has received everything that came during the pause, or as much of it as it waits for.
    CaughtUp,
    /// Everything persisted up to and including these batches: what was written survives the end of the process, what was synced
    /// the end of the machine.
    Durable {
        /// Not smaller than `synced`.
        written: Batch,
        /// The batch of [`crate::Action::Persist`] or of [`crate::Records`].
        synced: Batch,
    },
    /// The host has judged a step of authentication. It may take its time; other events may come in between.
    Authenticated {
        /// The connection of the exchange.
        connection: ConnectionId,
        /// The step that [`crate::Action::Authenticate`] named.
        step: u64,
        /// The judgement.
        verdict: Verdict<'a>,
    },
    /// The log takes more or less than before. Packets that wait for it are taken again when there is room.
    LogRoom(LogRoom),
    /// An item came out of a lane. It is always taken whole, even while this shard's own lanes are full. An item of a data
    /// lane is to be fed only while [`crate::Engine::takes_data`].
    Inbox {
        /// The shard that sent it.
        source: u16,
        /// The item.
        item: InboundItem<'a>,
    },
    /// Another shard has taken in that many announcements of this shard since the start.
    Announced {
        /// The other shard.
        target: u16,
        /// Its [`crate::Engine::announcements_seen`].
        count: u64,
    },
    /// The host publishes one of the broker's own messages, whose topic is `$SYS` or below and at home on this shard.
    Sys {
        /// The topic.
        topic: &'a str,
        /// The payload. It replaces the one published before.
        payload: &'a [u8],
    },
    /// The operator publishes a message. No client waits for it, and no rule forbids it. It waits in memory while another fan-out is
    /// under way, so the host feeds one at a time.
    Publish {
        /// A topic name that is not below `$SYS`.
        topic: &'a str,
        /// The payload. A retained message without one removes the message of its topic.
        payload: &'a [u8],
        /// The quality of service that subscribers are sent at most.
        qos: QoS,
        /// Whether it is retained.
        retain: bool,
    },
    /// A connection is to be turned away after all, because its peer turned out to be another one. Without effect once its CONNECT
    /// was read.
    TurnAway {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        refused: Refused,
    },
    /// The operator closes a connection: its client is sent 0x98, and its session goes on as it would without a
    /// DISCONNECT of the client.
    Disconnect {
        /// The connection, as [`crate::Engine::connection_of`] returns it.
        connection: ConnectionId,
    },
    /// The operator ends a session: its client, if it is connected, is sent 0x98, and its client identifier is free.
    EndSession {
        /// The client identifier.
        client_id: &'a str,
    },
    /// The operator gives a session to another user, whose client may resume it. A client that is connected is sent 0x98. A will
    /// whose delay runs is given up, because the former user wrote it.
    GiveSession {
        /// The client identifier.
        client_id: &'a str,
        /// The user and its rules.
        grant: &'a UserGrant<'a>,
    },
    /// The rules about topics have changed. From now on nothing is published or delivered by those before. The host had better
    /// wait for [`crate::Engine::is_swept`] with the next ones.
    Rules(Option<&'a SharedRules>),
    /// Bounds have changed. They hold for every decision from now on; what was decided by those before stays.
    Limits(&'a LiveLimits),
    /// Users that a list recognises have changed. Clients that were let in by one ([`UserGrant::is_listed`]) are sent 0x87 and closed:
    /// with their sessions, also those without a connection, if their user is gone. Sessions are visited in slices.
    Users {
        /// Users that are in no list any more.
        gone: &'a [Box<str>],
        /// Users with another password.
        renewed: &'a [Box<str>],
    },
    /// The certificate of a client is revoked: it is sent 0x98, and its session goes on as it would without a DISCONNECT of the
    /// client.
    Revoked {
        /// The connection.
        connection: ConnectionId,
    },
    /// The broker is drained, or not any more. While it is, clients are refused: with 0x9C if there is a server to refer them to, or
    /// else with 0x88. Connected clients stay until [`Event::SendAway`].
    Drain {
        /// Whether it is drained.
        is_on: bool,
        /// Replaces `Limits::server_reference`, also for the stop; "" refers to no server.
        server_reference: &'a str,
    },
    /// While the broker is drained: the client is sent 0x9C if there is a server to refer it to, or else 0x8B, and its session goes on
    /// as it would without a DISCONNECT of the client.
    SendAway {
        /// The connection.
        connection: ConnectionId,
    },
    /// Time passed, or [`crate::Engine::next_deadline`] was reached.
    Tick,
    /// The host is about to stop. No more packets are taken from clients, so that every acknowledged message is on its way,
    /// here and between shards, before [`Event::Stop`] closes the connections.
    Quiesce,
    /// The host stops: every client is sent 0x8B and closed.
    Stop,
}

impl Event<'_> {
    /// [`Event::Durable`] of a host that has no stage between written and synced.
    #[must_use]
    pub const fn durable(batch: Batch) -> Self {
        Self::Durable { written: batch, synced: batch }
    }
}

/// The side that ended a network connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClosedBy {
    /// The peer closed it in order.
    Peer,
    /// It was reset.
    Reset,
    /// The system gave up on a peer that answers nothing.
    Silence,
    /// The host closed it, after [`crate::Lend::Close`] or [`crate::Action::Abort`], or because the system refused what it
    /// needs.
    Host,
}

/// How much of an event was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "bytes that were not consumed must be offered again"]
pub struct Consumed {
    /// Bytes of [`Event::Received`]; always all of them unless credit was short or the step had done its share of work. 0
    /// for other events.
    pub bytes: usize,
    /// The peer sent DISCONNECT and is owed nothing more: the host may close at once, without waiting for the peer to close.
    pub may_close_at_once: bool,
    /// The step ended because it had delivered enough, and bytes are left. If the host offers them again at once, a few times
    /// in a turn, then one send carries more.
    pub goes_on: bool,
}

impl Consumed {
    pub(crate) const fn of(bytes: usize) -> Self {
        Self { bytes, may_close_at_once: false, goes_on: false }
    }
}
