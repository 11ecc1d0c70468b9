//! Requests of other shards for pages of this shard's store.
//!
//! Invariant: at most [`REQUESTS_MAX`] requests of one shard are open, and each is answered by one page, so the answers
//! that a shard's lane has to take are bounded.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::source::SourceJudge;
use super::store::{PAGE_MESSAGES_MAX, RetainedStore};
use super::watermarks::Watermarks;
use crate::base::ids::MessageKey;
use crate::message::origin::Origin;
use crate::session::replays::{Cursor, RequestId};
use crate::session::user::Users;
use crate::turn::Turn;

/// Requests open at once towards one shard.
pub(crate) const REQUESTS_MAX: u32 = 8;

/// A request of another shard.
#[derive(Debug)]
pub(crate) struct PageRequest {
    source: u16,
    id: RequestId,
    filter: Box<str>,
    cursor: Cursor,
    /// Updates that the answer has to count.
    required: Box<[Origin]>,
}

impl PageRequest {
    pub(crate) fn new(
        source: u16,
        id: RequestId,
        filter: &str,
        cursor: Cursor,
        required: Box<[Origin]>,
    ) -> Self {
        Self { source, id, filter: filter.into(), cursor, required }
    }

    /// The shard that sent it.
    pub(crate) fn source(&self) -> u16 {
        self.source
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// Reads its page: the messages, and the topic after which the next page begins.
    pub(crate) fn answer(
        &mut self,
        turn: &mut Turn<'_>,
        store: &RetainedStore,
        users: &Users,
    ) -> (Vec<MessageKey>, Option<&str>) {
        let judge = SourceJudge::new(turn, users);
        let (found, work) =
            store.page_of(&self.filter, &mut self.cursor, |topic, entry| judge.allows(topic, entry));
        turn.counters.retained_unread += judge.unread_count();
        turn.spend(work);
        assert!(found.len() <= PAGE_MESSAGES_MAX);
        assert!(matches!(self.cursor, Cursor::After(_) | Cursor::Done));
        let after = match &self.cursor {
            Cursor::After(topic) => Some(&**topic),
            Cursor::Start | Cursor::At(_) | Cursor::Done => None,
        };
        (found, after)
    }
}

/// **Lives on:** every shard. **Sees:** the open requests of the others.
#[derive(Debug, Default)]
pub(crate) struct PageRequests {
    ready: VecDeque<PageRequest>,
    /// Requests whose answer has to count updates that have not come yet.
    early: Vec<PageRequest>,
}

impl PageRequests {
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.early.len()
    }

    /// Whether none can be answered now.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    pub(crate) fn push(&mut self, request: PageRequest, watermarks: &Watermarks) {
        let all = self.ready.iter().chain(&self.early);
        let open_count = all.filter(|other| other.source == request.source).count();
        assert!(open_count < REQUESTS_MAX as usize);
        if watermarks.has_applied(&request.required) {
            self.ready.push_back(request);
        } else {
            self.early.push(request);
        }
    }

    /// An update was applied: requests that waited for it are ready.
    pub(crate) fn update_applied(&mut self, watermarks: &Watermarks) {
        let ready = self.early.extract_if(.., |request| watermarks.has_applied(&request.required));
        self.ready.extend(ready);
    }

    pub(crate) fn pop_ready(&mut self) -> Option<PageRequest> {
        self.ready.pop_front()
    }
}
