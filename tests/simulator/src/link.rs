//! One network connection: bytes in transit in both directions, and the state of both ends.

use std::collections::VecDeque;

use engine::ConnectionId;

use crate::session::NEVER;
use crate::verdicts::Admission;

/// The broker's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Served {
    /// The listener of this shard has not accepted it yet.
    Arriving,
    /// Accepted.
    By(usize, ConnectionId),
    /// Given up by one shard, not yet accepted by the next.
    Travelling,
    /// Closed by the broker, or the broker knows that the client closed it.
    Gone,
}

/// The client's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientEnd {
    Open,
    /// Closed normally: bytes already written still arrive.
    Finished,
    /// Reset: nothing more arrives.
    Reset,
    /// The client dropped it, but the network did not notice.
    Abandoned,
}

#[derive(Debug)]
pub(crate) struct Link {
    /// Its client; `None` for a stranger.
    pub(crate) client: Option<usize>,
    pub(crate) served: Served,
    pub(crate) client_end: ClientEnd,
    /// The process ended that served it.
    pub(crate) has_crashed: bool,
    /// When the broker knew that it is gone.
    pub(crate) gone_at: u64,
    /// Client to broker, not received yet.
    pub(crate) inbound: VecDeque<u8>,
    /// Received, not consumed.
    pub(crate) unconsumed: Vec<u8>,
    /// Waits for `Resume`.
    pub(crate) paused: bool,
    /// Broker to client, not read yet.
    pub(crate) outbound: VecDeque<u8>,
    /// `Flush` was requested and is not finished.
    pub(crate) dirty: bool,
    /// The oracle's knowledge of its verdict.
    pub(crate) admission: Admission,
}

impl Link {
    /// A link of a client that names this identifier.
    pub(crate) fn new(client: Option<usize>, client_id: &str) -> Self {
        Self {
            client,
            served: Served::Arriving,
            client_end: ClientEnd::Open,
            has_crashed: false,
            gone_at: NEVER,
            inbound: VecDeque::new(),
            unconsumed: Vec::new(),
            paused: false,
            outbound: VecDeque::new(),
            dirty: false,
            admission: Admission::of(client_id),
        }
    }

    /// The client can no longer read or write the link.
    pub(crate) fn is_left(&self) -> bool {
        self.client_end != ClientEnd::Open
    }

    /// Whether no bytes are in transit and none can follow.
    pub(crate) fn is_quiet(&self) -> bool {
        match self.served {
            Served::Arriving | Served::Travelling => false,
            Served::Gone => self.is_left() || self.outbound.is_empty(),
            Served::By(..) => {
                self.client_end == ClientEnd::Open
                    && self.inbound.is_empty()
                    && self.unconsumed.is_empty()
                    && self.outbound.is_empty()
                    && !self.dirty
            }
        }
    }
}
