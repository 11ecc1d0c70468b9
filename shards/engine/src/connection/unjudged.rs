//! The bytes that a shard holds for peers that it does not know yet: unfinished CONNECTs, exchanges of authentication,
//! and CONNECTs that the host judges, with everything that came behind them.
//!
//! They have one bound together, so that peers without a name cannot take the memory of clients. Past it, the connection that
//! holds most is closed; of equals the oldest.

use super::{Connection, Connections, Phase};
use crate::base::ids::ConnectionId;
use crate::limits::Limits;

impl Connection {
    /// Bytes that it holds without being known.
    pub(super) fn unjudged_bytes(&self) -> u64 {
        match self.phase {
            Phase::Fresh(_) | Phase::Authenticating | Phase::Judging => {
                let authentication = self.authentication.as_ref().map_or(0, |known| known.unjudged_bytes());
                u64::from(self.partial_packet_bytes) + authentication
            }
            Phase::Accepting(_) | Phase::Open(_) | Phase::HandingOver | Phase::Closing => 0,
        }
    }
}

impl Connections {
    /// Changes a connection in its phase, its partial packet or its authentication, and counts what it holds unjudged. `None`
    /// if there is no such connection.
    pub(super) fn change_unjudged<R>(
        &mut self,
        id: ConnectionId,
        change: impl FnOnce(&mut Connection) -> R,
    ) -> Option<R> {
        let connection = self.slab.get_mut(id.key())?;
        let before = connection.unjudged_bytes();
        let result = change(connection);
        self.unjudged.replace(id, connection.arrival.ordinal, (before, connection.unjudged_bytes()));
        Some(result)
    }

    /// The connection to close if these bytes are more than `Limits::unjudged_bytes_max`.
    pub(crate) fn unjudged_debtor(&self, limits: &Limits) -> Option<ConnectionId> {
        if self.unjudged.total() <= limits.unjudged_bytes_max {
            return None;
        }
        let debtor = self.unjudged.largest();
        assert!(debtor.is_some());
        debtor
    }

    /// Recomputes the bytes of this file, for an audit.
    ///
    /// # Panics
    /// If they are wrong.
    pub(super) fn check_unjudged(&self) {
        let held = || self.slab.iter().map(|(_, connection)| connection.unjudged_bytes());
        assert!(held().sum::<u64>() == self.unjudged.total());
        assert!(held().filter(|&bytes| bytes > 0).count() == self.unjudged.iter().count());
        for (bytes, ordinal, id) in self.unjudged.iter() {
            let connection = self.get(id);
            assert!(
                connection
                    .is_some_and(|known| known.arrival.ordinal == ordinal && known.unjudged_bytes() == bytes)
            );
        }
    }
}
