//! One connection as its shard's host sees it: who it is, and how far its end has come.
//! Knows neither what the bytes mean nor when to send.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr};

use engine::{Admission, ConnectionId};

use crate::net::listen::ListenerNumber;

/// What a host asks of a connection, in whichever world that lives.
pub(in crate::backend) trait Endpoint {
    /// Sends what the kernel takes of `bytes`, and never waits.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends one direction or both; whoever waits to receive learns of the latter.
    fn shut_down(&self, how: Shutdown);

    /// There is credit for what was not consumed, or nobody cares any more.
    fn resume(&self);

    /// `None` if the peer is gone.
    fn peer(&self) -> Option<SocketAddr>;
}

/// **Lives on:** the shard of its connection.
pub(in crate::backend) struct Socket<T> {
    pub(in crate::backend) id: ConnectionId,
    pub(in crate::backend) admission: Admission,
    /// By which it came.
    pub(in crate::backend) listener: ListenerNumber,
    pub(in crate::backend) endpoint: T,
    /// Somebody waits until the socket takes bytes again: nobody else sends.
    pub(in crate::backend) blocked: Cell<bool>,
    aborted: Cell<bool>,
    /// `end_sending` was called.
    lingers: Cell<bool>,
    /// The shard for which it has to leave this one.
    home: Cell<Option<u16>>,
}

impl<T: Endpoint> Socket<T> {
    pub(super) fn new(id: ConnectionId, endpoint: T, admission: Admission, listener: ListenerNumber) -> Self {
        Self {
            id,
            admission,
            listener,
            endpoint,
            blocked: Cell::new(false),
            aborted: Cell::new(false),
            lingers: Cell::new(false),
            home: Cell::new(None),
        }
    }

    /// Nothing follows what was sent; what still arrives is read, so that no reset overtakes it. Returns whether this is
    /// the first time.
    pub(super) fn end_sending(&self) -> bool {
        // A peer that is gone already needs no farewell.
        self.endpoint.shut_down(Shutdown::Write);
        !self.lingers.replace(true)
    }

    /// Ends both directions, which wakes whoever receives from it.
    pub(in crate::backend) fn abort(&self) {
        self.aborted.set(true);
        self.endpoint.shut_down(Shutdown::Both);
        self.endpoint.resume();
    }

    pub(super) fn resume(&self) {
        self.endpoint.resume();
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.lingers.get()
    }

    pub(in crate::backend) fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// Its session lives on shard `home`: whoever receives from it sends it there, and nothing else happens on it any
    /// more.
    pub(super) fn leave_for(&self, home: u16) {
        self.home.set(Some(home));
    }

    pub(in crate::backend) fn home(&self) -> Option<u16> {
        self.home.get()
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.endpoint.peer()
    }
}
