//! What the broker keeps for one client identifier, with or without a connection.
//! Knows no bytes and no topic tree; it is moved by `connect`, `deliver`, `deliver_pending` and `will`.

use alloc::boxed::Box;

use compact_str::CompactString;
use wire::SubscriptionId;

use crate::base::slab::Key;
use crate::base::timer_wheel::TimerId;
use crate::connection::table::ConnectionId;
use crate::counters::{Counters, DropReason};
use crate::retained::replay::Replays;
use crate::session::inflight::DeliveryState;
use crate::session::will::Will;
use crate::topic::tree::SubscriptionList;

/// Never expires [MQTT-3.1.2.11.2].
pub(crate) const NEVER_S: u32 = u32::MAX;

/// A session of this shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SessionId(pub(crate) Key);

/// What was owed to this session and what became of it:
/// matched = delivered + in flight + queued + dropped, exactly.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) matched: u64,
    pub(crate) delivered: u64,
    /// By [`DropReason::index`]; allocated at the first drop.
    dropped: Option<Box<[u64; DropReason::ALL.len()]>>,
}

impl Ledger {
    pub(crate) fn match_one(&mut self, totals: &mut Counters) {
        self.matched += 1;
        totals.matched += 1;
    }

    pub(crate) fn deliver(&mut self, totals: &mut Counters, count: u32) {
        self.delivered += u64::from(count);
        totals.delivered += u64::from(count);
    }

    pub(crate) fn drop(&mut self, totals: &mut Counters, reason: DropReason, count: u32) {
        if count == 0 {
            return;
        }
        self.dropped.get_or_insert_default()[reason.index()] += u64::from(count);
        totals.dropped[reason.index()] += u64::from(count);
    }

    pub(crate) fn dropped(&self) -> [u64; DropReason::ALL.len()] {
        self.dropped.as_deref().copied().unwrap_or_default()
    }
}

/// **Lives on:** the shard of its client identifier. **Sees:** nothing of other sessions.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: CompactString,
    /// The connection that serves it; `None` while offline.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) subscriptions: SubscriptionList,
    /// Seconds it outlives its connection; 0 ends with it, [`NEVER_S`] never.
    pub(crate) expiry_interval_s: u32,
    /// Set while offline, unless it never expires.
    pub(crate) expiry_timer: Option<TimerId>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) deliveries: Option<Box<DeliveryState>>,
    /// Retained messages still to be looked up.
    pub(crate) replays: Option<Box<Replays>>,
    /// It waits in the list of sessions whose look-ups go on.
    pub(crate) replay_scheduled: bool,
    pub(crate) ledger: Ledger,
    /// The publish that matched it last, and where in the list of its matches: overlapping
    /// subscriptions become one delivery.
    pub(crate) matched_sequence: u64,
    pub(crate) matched_at: u32,
}

impl Session {
    pub(crate) fn new(client_id: CompactString) -> Self {
        Self {
            client_id,
            connection: None,
            subscriptions: SubscriptionList::EMPTY,
            expiry_interval_s: 0,
            expiry_timer: None,
            will: None,
            deliveries: None,
            replays: None,
            replay_scheduled: false,
            ledger: Ledger::default(),
            matched_sequence: 0,
            matched_at: 0,
        }
    }

    /// It outlives its connection, so what it is owed survives too.
    pub(crate) fn is_persistent(&self) -> bool {
        self.expiry_interval_s > 0
    }

    pub(crate) fn queued_count(&self) -> usize {
        self.deliveries.as_ref().map_or(0, |deliveries| deliveries.queue.len())
    }

    pub(crate) fn inflight_count(&self) -> u16 {
        self.deliveries.as_ref().map_or(0, |deliveries| deliveries.inflight_count())
    }
}

/// A Subscription Identifier as it is stored in files, or none.
pub(crate) fn identifier_number(identifier: Option<SubscriptionId>) -> Option<u32> {
    identifier.map(SubscriptionId::get)
}
