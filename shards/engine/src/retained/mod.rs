//! Retained messages: the store of this shard, and their replay to new subscriptions, here and on other shards.
//!
//! Invariant: a session is in at most one of the two lists `scheduled` and `blocked`, and once; so both are bounded by
//! the sessions.

mod expiry;
pub(crate) mod pages;
pub(crate) mod replay;
mod source;
pub(crate) mod store;
pub(crate) mod watermarks;

use alloc::vec;
use alloc::vec::Vec;

use crate::base::fingerprint::Fingerprints;
use crate::base::ids::SessionId;
use crate::base::long_queue::LongQueue;
use crate::message::origin::Origin;
use crate::session::Session;
use crate::session::table::Sessions;

use pages::{PageRequests, REQUESTS_MAX};
use store::RetainedStore;
use watermarks::Watermarks;

/// **Lives on:** every shard. **Sees:** the retained messages of the topics that are at home here.
#[derive(Debug)]
pub(crate) struct Retained {
    store: RetainedStore,
    watermarks: Watermarks,
    page_requests: PageRequests,
    /// This shard's number.
    own: u16,
    fingerprints: Fingerprints,
    /// Sessions whose replays can go on.
    scheduled: LongQueue<SessionId>,
    /// Sessions whose replays wait until another shard answers a request or reports its updates.
    blocked: LongQueue<SessionId>,
    /// Requests sent to other shards so far; the last one's number.
    requests_made: u32,
    /// By target: requests of this shard that are open.
    open_request_counts: Vec<u32>,
}

impl Retained {
    pub(crate) fn new(own: u16, shard_count: usize, fingerprints: Fingerprints) -> Self {
        Self {
            store: RetainedStore::default(),
            watermarks: Watermarks::new(own, shard_count),
            page_requests: PageRequests::default(),
            own,
            fingerprints,
            scheduled: LongQueue::new(),
            blocked: LongQueue::new(),
            requests_made: 0,
            open_request_counts: vec![0; shard_count],
        }
    }

    /// Bytes of the lists of sessions.
    pub(crate) fn list_bytes(&self) -> u64 {
        self.scheduled.bytes_held() + self.blocked.bytes_held()
    }

    pub(crate) fn store(&self) -> &RetainedStore {
        &self.store
    }

    pub(crate) fn store_mut(&mut self) -> &mut RetainedStore {
        &mut self.store
    }

    pub(crate) fn watermarks_mut(&mut self) -> &mut Watermarks {
        &mut self.watermarks
    }

    /// Whether every request of another shard that can be answered is answered.
    pub(crate) fn has_no_ready_request(&self) -> bool {
        self.page_requests.is_idle()
    }

    /// `source` had taken in `seen` of our announcements when it had sent these updates last, each named by its home.
    pub(crate) fn on_report(&mut self, source: u16, seen: u64, sent: impl Iterator<Item = Origin>) {
        for update in sent {
            let home = update.shard;
            self.watermarks.require(home, Origin { shard: source, sequence: update.sequence });
        }
        self.watermarks.acknowledge(source, seen);
    }

    /// Compares its lists with the sessions, for an audit: each session that counts as scheduled is in one of them, once.
    ///
    /// # Panics
    /// If that is not so.
    pub(crate) fn check(&self, sessions: &Sessions) {
        self.watermarks.check(self.own);
        let listed = self.scheduled.iter().chain(self.blocked.iter()).filter_map(|&id| sessions.get(id));
        let scheduled = sessions.iter().filter(|(_, session)| session.is_replay_scheduled());
        assert!(listed.clone().all(Session::is_replay_scheduled));
        assert!(listed.count() == scheduled.count());
        let waiting = sessions.iter().filter_map(|(_, session)| session.replays());
        let open_count = waiting.filter(|replays| replays.has_open_request()).count();
        // A session may have ended since.
        assert!(open_count <= self.page_request_counts().0 as usize);
        assert!(self.open_request_counts.iter().all(|&count| count <= REQUESTS_MAX));
        assert!(self.open_request_counts[usize::from(self.own)] == 0);
    }

    /// Requests that are open: of this shard to others, and of others to this shard.
    pub(crate) fn page_request_counts(&self) -> (u32, usize) {
        (self.open_request_counts.iter().sum(), self.page_requests.len())
    }
}
