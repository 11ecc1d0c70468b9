//! Looking at the outboxes of connections, and taking back what waits in them.

use super::outbox::shed::{Debt, Shed, Taken, Terms};
use super::{Connection, Connections};
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::time::Instant;

impl Connection {
    /// Bytes that wait in its outbox, and those of its aliases.
    pub(crate) fn debt_bytes(&self) -> u64 {
        self.outbox.bytes() + self.alias_in_bytes() + self.alias_out_bytes()
    }

    pub(crate) fn has_empty_outbox(&self) -> bool {
        self.outbox.bytes() == 0
    }
}

impl Connections {
    /// Looks at how an open connection's client takes what waits for it. `None` if less than `bytes_min` bytes wait that may all be sent
    /// at the end of the turn.
    pub(crate) fn look_at_outbox(&mut self, now: Instant, id: ConnectionId, bytes_min: u64) -> Option<Debt> {
        let Self { slab, outboxes, .. } = self;
        let connection = slab.get_mut(id.key()).filter(|connection| connection.is_open())?;
        connection.outbox.outbox_mut()?.look(&mut outboxes.pool, now, bytes_min)
    }

    /// Takes back what waits for a connection, from a piece on, within about `work_max` units. Returns the session whose messages these
    /// were with what was taken; `None` if the connection has ended.
    pub(crate) fn shed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        (shed, from_piece, work_max): (Shed, usize, u32),
    ) -> Option<(Option<SessionId>, Taken)> {
        let Self { slab, outboxes, .. } = self;
        let connection = slab.get_mut(id.key())?;
        let terms = Terms::new(shed, connection.aliases_out().is_some());
        let before = connection.outbox.bytes();
        let owner = connection.outbox.owner();
        let taken = connection.outbox.outbox_mut().map_or_else(Taken::default, |outbox| {
            let taken = outbox.shed(&mut outboxes.pool, terms, (from_piece, work_max));
            outbox.look_anew(&mut outboxes.pool, now);
            taken
        });
        let after = connection.outbox.bytes();
        if after == 0 {
            outboxes.spare.take_back(&mut outboxes.pool, &mut connection.outbox);
        }
        assert!(outboxes.bytes_held >= before && after <= before);
        outboxes.bytes_held -= before - after;
        Some((owner, taken))
    }
}
