//! The exchanges of SCRAM of one shard that wait for the proof of a client.
//! Bound: [`EXCHANGES_MAX`]; one more ends the oldest, whose client is refused and comes again. An exchange whose connection has ended
//! stays until then, or until another connection has its slot.

use std::collections::{BTreeMap, VecDeque};

use engine::ConnectionId;

use super::scram::Exchange;
use crate::process::held_bytes::{AUTHENTICATION, Hold};

/// Exchanges of a shard at most: 4 KiB each.
const EXCHANGES_MAX: usize = 2_048;

/// Bytes of an exchange in the tree, whose nodes are between half full and full, and in the order.
const ENTRY_BYTES: usize =
    size_of::<(u32, (u32, u64, Exchange, Hold))>() * 3 / 2 + 2 * size_of::<(u64, u32)>();

/// The exchanges of a shard by their connections.
#[derive(Default)]
pub(super) struct Exchanges {
    /// By the slot of the connection, with its generation and the number of the exchange. Each counts its bytes.
    entries: BTreeMap<u32, (u32, u64, Exchange, Hold)>,
    /// Numbers and slots, the oldest first; some are of exchanges that have ended.
    order: VecDeque<(u64, u32)>,
    begun: u64,
}

impl Exchanges {
    /// Keeps an exchange until its connection goes on with it.
    pub(super) fn insert(&mut self, connection: ConnectionId, exchange: Exchange) {
        self.begun += 1;
        let held = AUTHENTICATION.hold(ENTRY_BYTES + exchange.heap_bytes());
        self.entries.insert(connection.slot(), (connection.generation(), self.begun, exchange, held));
        self.order.push_back((self.begun, connection.slot()));
        // The order is at most twice as long as the entries may be.
        while self.entries.len() > EXCHANGES_MAX || self.order.len() > 2 * EXCHANGES_MAX {
            let Some((number, slot)) = self.order.pop_front() else { return };
            if self.entries.get(&slot).is_some_and(|(_, own, ..)| *own == number) {
                self.entries.remove(&slot);
            }
        }
    }

    /// Takes the exchange of a connection.
    pub(super) fn take(&mut self, connection: ConnectionId) -> Option<Exchange> {
        let (generation, _, exchange, _) = self.entries.remove(&connection.slot())?;
        (generation == connection.generation()).then_some(exchange)
    }
}
