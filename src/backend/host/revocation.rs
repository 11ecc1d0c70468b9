//! Lists of revoked certificates that have changed, and listeners that have ended: open connections are looked at, some in each turn.

use engine::Event;
use tracing::info;

use super::{Endpoint, Host, Socket};

/// Slots of connections that a turn looks at: reading a certificate takes some microseconds.
const SLOTS_PER_TURN: usize = 64;

impl<T: Endpoint> Host<T> {
    /// Certificates may have been revoked, or a listener has ended. A look that is under way begins anew.
    pub(in crate::backend) fn begin_revocation(&self) {
        self.revocation_at.set(Some(0));
        self.turn.wake_flusher();
    }

    pub(super) fn is_looking_for_revoked(&self) -> bool {
        self.revocation_at.get().is_some()
    }

    /// Looks at some connections.
    pub(super) fn look_for_revoked(&self) {
        let Some(from) = self.revocation_at.get() else { return };
        let end = (from + SLOTS_PER_TURN).min(self.sockets.borrow().len());
        for at in from..end {
            let socket = self.sockets.borrow().get(at).cloned().flatten();
            if let Some(socket) = socket {
                self.close_if_revoked(&socket);
                self.close_if_ended(&socket);
            }
        }
        self.revocation_at.set((end < self.sockets.borrow().len()).then_some(end));
    }

    /// Closes the connection of a client whose certificate is revoked.
    pub(in crate::backend) fn close_if_revoked(&self, socket: &Socket<T>) {
        if socket.endpoint.is_revoked() {
            let connection = socket.id;
            info!(shard = self.number, connection = connection.slot(), listener = %socket.listener, "the client's certificate is revoked");
            let _nothing = self.step(Event::Revoked { connection });
        }
    }
}
