//! Facts about a client that the host knows before its CONNECT.

use super::Engine;
use crate::base::ids::ConnectionId;

impl Engine {
    /// Tells the name of a client that is known before its CONNECT, from its certificate or a proxy: see
    /// [`crate::ClientIdSource`]. A connection that has sent its CONNECT is left alone.
    pub fn identify(&mut self, id: ConnectionId, name: &str) {
        self.rooms.delivery.connections.identify(&self.limits, id, name);
    }

    /// Tells the address of a client, as any number that stands for it. Without a user, a client whose identifier has left no buckets of
    /// its [`crate::Rates`] goes on with those that another identifier has left from there. A connection that has sent its CONNECT, or
    /// whose listener has no rates, is left alone.
    pub fn set_address(&mut self, id: ConnectionId, address: u64) {
        self.rooms.delivery.connections.set_address(&self.limits, id, address);
    }
}
