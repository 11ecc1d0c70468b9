//! A client identifier and the state that its client keeps across connections: the client's half of the session. Bytes
//! are written and read in `client`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wire::{Assembler, PacketId, ProtocolVersion, QoS};

/// The progress of a message that the client publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Publish,
    Release,
}

/// A QoS 1 or 2 message that is not completely acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) packet_id: PacketId,
    pub(crate) message: u32,
    pub(crate) qos: QoS,
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Offline,
    /// CONNECT was written.
    Connecting,
    Online,
}

/// A filter in a SUBSCRIBE that is not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct PendingFilter {
    pub(crate) filter: String,
    pub(crate) qos: QoS,
    pub(crate) at: u64,
    pub(crate) wants_retained: bool,
}

/// The options of a CONNECT.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectOptions {
    /// Whether an existing session is discarded.
    pub clean_start: bool,
    /// The will: QoS, retain, delay in seconds (5.0).
    pub will: Option<(QoS, bool, u32)>,
}

/// A client: one identifier, one connection after the other.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub struct Identity {
    pub(crate) name: String,
    pub(crate) version: ProtocolVersion,
    /// Seconds that its session outlives its connections; 0: not at all.
    pub(crate) expiry_s: u32,
    /// Its Receive Maximum (5.0).
    pub(crate) receive_maximum: u16,
    /// Its group: `$share/name/filter`.
    pub(crate) group: String,

    pub(crate) phase: Phase,
    pub(crate) link: Option<usize>,
    pub(crate) assembler: Assembler,
    pub(crate) aliases: BTreeMap<u16, String>,
    /// The client reads nothing before this time, in milliseconds.
    pub(crate) stalled_until_ms: u64,
    /// DISCONNECT was written.
    pub(crate) leaving: bool,
    /// Links of earlier connections that may still be accepted, and take the session over.
    pub(crate) rivals: Vec<usize>,
    pub(crate) had_rivals: bool,
    /// The will that DISCONNECT on this link deleted.
    pub(crate) withdrawn: Option<(u32, usize)>,
    /// The client ended its session, but the broker may not know it.
    pub(crate) must_clean_start: bool,
    /// A CONNECT that was not answered may have begun a session.
    pub(crate) may_exist: bool,
    /// The will of a connection that a crash ended, due at once.
    pub(crate) crash_will: Option<u32>,
    /// The message of the current will and its delay.
    pub(crate) will: Option<(u32, u32)>,
    pub(crate) connected_clean: bool,

    /// The broker has a session for the client, unless it expired.
    pub(crate) session_kept: bool,
    pub(crate) offline_since_ms: u64,
    /// When the broker lost the last connection that it served, or started without knowing that.
    pub(crate) detached_ms: u64,
    /// Its session ended before this connection was opened.
    pub(crate) must_have_expired: bool,
    pub(crate) outgoing: VecDeque<Outgoing>,
    /// The broker's QoS 2 Packet Identifiers between PUBLISH and PUBREL, each with when its PUBLISH came last.
    pub(crate) received: BTreeMap<PacketId, u64>,
    /// Those whose PUBLISH the broker may not remember to have sent.
    pub(crate) doubtful: BTreeSet<PacketId>,
    pub(crate) next_packet_id: u16,
    pub(crate) server_receive_maximum: u16,
    pub(crate) subscribing: BTreeMap<PacketId, Vec<PendingFilter>>,
    pub(crate) unsubscribing: BTreeMap<PacketId, (Vec<String>, u64)>,
    /// QoS 0 messages written since the last PINGREQ, and the ones before each unanswered PINGREQ.
    pub(crate) unconfirmed: Vec<u32>,
    pub(crate) pinged: VecDeque<Vec<u32>>,
    /// The final check records retained messages here.
    pub(crate) found: BTreeMap<String, u32>,
    /// The messages delivered to the application, in order, and whether each was retained.
    pub(crate) delivered: Vec<(u32, bool)>,
}

impl Identity {
    /// A member of a group `$share/name/filter`.
    #[must_use]
    pub fn in_group(mut self, group: &str) -> Self {
        self.group = group.into();
        self
    }

    /// A client that has never connected.
    #[must_use]
    pub fn new(client_id: &str, version: ProtocolVersion, expiry_s: u32) -> Self {
        Self {
            name: client_id.into(),
            version,
            expiry_s,
            receive_maximum: 100,
            group: String::new(),
            phase: Phase::Offline,
            link: None,
            assembler: Assembler::new(),
            aliases: BTreeMap::new(),
            stalled_until_ms: 0,
            leaving: false,
            rivals: Vec::new(),
            had_rivals: false,
            withdrawn: None,
            must_clean_start: false,
            may_exist: false,
            crash_will: None,
            will: None,
            connected_clean: false,
            session_kept: false,
            offline_since_ms: 0,
            detached_ms: 0,
            must_have_expired: false,
            outgoing: VecDeque::new(),
            received: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            next_packet_id: 0,
            server_receive_maximum: 10,
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeMap::new(),
            unconfirmed: Vec::new(),
            pinged: VecDeque::new(),
            found: BTreeMap::new(),
            delivered: Vec::new(),
        }
    }

    /// Whether the client waits for no acknowledgement.
    pub(crate) fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
            && self.subscribing.is_empty()
            && self.unsubscribing.is_empty()
            && self.pinged.is_empty()
    }

    pub(crate) fn packet_id(&mut self) -> PacketId {
        loop {
            self.next_packet_id = self.next_packet_id % 60_000 + 1;
            let id = PacketId::new(self.next_packet_id).expect("from 1 on");
            let taken = self.outgoing.iter().any(|outgoing| outgoing.packet_id == id)
                || self.subscribing.contains_key(&id)
                || self.unsubscribing.contains_key(&id);
            if !taken {
                return id;
            }
        }
    }

    /// A new session: all state of the old one is dropped.
    pub(crate) fn forget_session(&mut self) {
        self.outgoing.clear();
        self.received.clear();
        self.doubtful.clear();
    }

    /// Whether its session may have ended while it had no connection.
    pub(crate) fn may_have_expired(&self, now_ms: u64) -> bool {
        // A client whose session was taken over by a rival may have been offline for longer than it knows.
        let offline_since_ms = if self.had_rivals { 0 } else { self.offline_since_ms };
        now_ms >= offline_since_ms + u64::from(self.expiry_s) * 1_000
    }

    /// The broker started again. A session that had a connection, as far as the log knows, begins to expire now.
    /// `knows_detached`: the log has that it lost its connection.
    pub(crate) fn begin_after_crash(&mut self, now_ms: u64, knows_detached: bool) {
        if !knows_detached {
            self.detached_ms = now_ms;
        }
        self.offline_since_ms = self.offline_since_ms.min(now_ms);
        self.stalled_until_ms = 0;
    }

    /// The connection is gone: its open requests stay unanswered.
    pub(crate) fn forget_connection(&mut self) {
        self.phase = Phase::Offline;
        self.link = None;
        self.assembler = Assembler::new();
        self.aliases.clear();
        self.subscribing.clear();
        self.unsubscribing.clear();
        self.unconfirmed.clear();
        self.pinged.clear();
        self.leaving = false;
        self.stalled_until_ms = 0;
    }
}
