//! The listeners of a shard: the tables and the permits that connections begin with, their peers, and the end of a listener.

use std::net::SocketAddr;

use engine::{Admission, ClosedBy, Event, Refused};
use tracing::debug;

use super::{Endpoint, Host, Socket};
use crate::net::layers::Layers;
use crate::net::listen::{ListenerNumber, ListenerTables};
use crate::net::permits::Permit;

impl<T: Endpoint> Host<T> {
    /// Knows these listeners from now on. The numbers before mean what they meant.
    pub(in crate::backend) fn change_listeners(&self, tables: ListenerTables) {
        let ListenerTables { layers, client_ids, names } = tables;
        self.layers.replace(layers);
        self.client_ids.replace(client_ids);
        self.log.borrow_mut().change_names(&names);
    }

    /// Begins to close the clients of listeners that have ended.
    pub(in crate::backend) fn end_listeners(&self, ended: Vec<u16>) {
        self.ended.replace(ended);
        self.begin_revocation();
    }

    /// The layers of a connection that a listener has accepted; `None` for a plain one.
    pub(in crate::backend) fn layers_of(
        &self,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
    ) -> Option<Layers> {
        self.layers.borrow().begin(listener, peer)
    }

    /// Closes the connection if its listener has ended.
    pub(in crate::backend) fn close_if_ended(&self, socket: &Socket<T>) {
        if self.ended.borrow().contains(&socket.listener.number()) {
            let _nothing = self.step(Event::Disconnect { connection: socket.id });
        }
    }

    /// A permit for a connection that was accepted on a listener.
    ///
    /// # Errors
    /// Why it is refused, if there is no permit to tell it so.
    pub(in crate::backend) fn acquire(
        &self,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
    ) -> Result<Permit, Refused> {
        self.permits.acquire(self.number, listener, peer, self.clock.now().as_ms())
    }

    /// A trusted proxy has named the address of the client behind it.
    pub(super) fn set_peer(&self, socket: &Socket<T>, peer: SocketAddr) {
        let connection = socket.id.slot();
        debug!(shard = self.number, connection, %peer, "the proxy names the client");
        let before = self.peers.borrow().address(connection);
        self.peers.borrow_mut().change(connection, peer);
        self.tell_address(socket.id, socket.listener, Some(peer));
        match self.permits.change_peer(socket.listener, (before, peer), self.clock.now().as_ms()) {
            Ok(Admission::Serve) => {}
            Ok(Admission::TurnAway(refused)) => {
                socket.admission.set(Admission::TurnAway(refused));
                let _nothing = self.step(Event::TurnAway { connection: socket.id, refused });
            }
            Err(refused) => {
                // Its permit is that of the proxy's own address.
                self.turn_away(socket.listener, Some(peer), refused);
                self.peers.borrow_mut().forget(connection);
                socket.abort(ClosedBy::Host);
            }
        }
    }
}
