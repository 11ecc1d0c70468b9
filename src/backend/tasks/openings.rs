//! The bytes that layers hold for peers whose layers are not open. They have one bound together; past it, the connection that
//! holds most is closed, of equals the oldest. The engine has the same rule for what comes after them.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;

use engine::ConnectionId;

/// Bytes held, and the place among all openings: the largest key is closed first.
type Key = (usize, Reverse<u64>);

/// **Lives on:** the shard. **Sees:** the connections that are opened.
pub(super) struct Openings {
    by_bytes: RefCell<BTreeMap<Key, ConnectionId>>,
    bytes: Cell<usize>,
    bytes_max: usize,
    /// Openings that began.
    count: Cell<u64>,
}

/// One connection among them, until it is open or gone.
pub(super) struct Opening<'a> {
    openings: &'a Openings,
    connection: ConnectionId,
    number: u64,
    bytes: Cell<usize>,
}

impl Openings {
    /// None, and this bound.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { by_bytes: RefCell::default(), bytes: Cell::new(0), bytes_max, count: Cell::new(0) }
    }

    /// A connection that holds nothing yet.
    pub(super) fn begin(&self, connection: ConnectionId) -> Opening<'_> {
        let number = self.count.get();
        self.count.set(number + 1);
        Opening { openings: self, connection, number, bytes: Cell::new(0) }
    }

    /// The connection to close, if too many bytes are held.
    pub(super) fn debtor(&self) -> Option<ConnectionId> {
        if self.bytes.get() <= self.bytes_max {
            return None;
        }
        self.by_bytes.borrow().last_key_value().map(|(_, &connection)| connection)
    }
}

impl Opening<'_> {
    /// It holds this much now.
    pub(super) fn hold(&self, bytes: usize) {
        let mut by_bytes = self.openings.by_bytes.borrow_mut();
        let before = self.bytes.replace(bytes);
        by_bytes.remove(&(before, Reverse(self.number)));
        if bytes > 0 {
            by_bytes.insert((bytes, Reverse(self.number)), self.connection);
        }
        self.openings.bytes.set(self.openings.bytes.get() + bytes - before);
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.hold(0);
    }
}
