//! The listeners of a shard, and the end of one: the tables that connections begin with, and a look at open connections, some in each turn.

use std::net::SocketAddr;

use engine::Event;

use super::{Endpoint, Host, Socket};
use crate::net::layers::Layers;
use crate::net::listen::{ListenerNumber, ListenerTables};

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
}
