//! One connection from the view of the host: its identity, its permit, and the progress of its end.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;

use engine::{Admission, ClosedBy, ConnectionId};

use crate::net::listen::ListenerNumber;
use crate::net::tls::PeerCertificate;

/// Operations of a host on a connection, implemented by each kind of backend.
pub(in crate::backend) trait Endpoint: Sized {
    /// Bytes that a connection takes beside those of its engine: this endpoint, its socket, and its task or threads.
    const CONNECTION_BYTES: u64;

    /// Sends as many of `bytes` as the kernel takes, without waiting. Where they become others on their way, the answer counts those
    /// of which the kernel has all that they became; the rest must come again, in front of the next ones.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Bytes behind those that `send` counted last that have already become others. They come again as they were.
    fn begun_bytes(&self) -> usize {
        0
    }

    /// Sends what the layers of the connection have to say themselves, with their farewell if the connection ends. Returns whether
    /// the kernel has all of it.
    fn flush_own(&self, _ends: bool) -> io::Result<bool> {
        Ok(true)
    }

    /// Ends one direction or both. Ending both wakes the receiver.
    fn shut_down(&self, how: Shutdown);

    /// The connection has credit for its unconsumed bytes again, or is aborted.
    fn resume(&self);

    /// Receives the bytes that have arrived into the front of `buffer`, whatever the runtime knows of them. Nothing where older
    /// ones may wait.
    fn receive_now(&self, buffer: &mut Vec<u8>) -> io::Result<usize>;

    /// The names in the certificate of the client; `None` without one.
    fn peer_certificate(&self) -> Option<PeerCertificate> {
        None
    }

    /// Whether a certificate of the client is revoked now.
    fn is_revoked(&self) -> bool {
        false
    }

    /// Whether bytes of the peer, or its end, wait in the socket.
    fn has_unread_bytes(&self) -> bool;

    /// Whether the peer has left, whatever waits in the socket before its end.
    fn has_ended(&self) -> bool;
}

const STAYS: u16 = u16::MAX;

// An idle connection has one, behind a counter of two words.
const _: () = assert!(size_of::<Socket<[usize; 3]>>() == 40);

/// **Lives on:** the shard of its connection.
pub(in crate::backend) struct Socket<T> {
    pub(in crate::backend) id: ConnectionId,
    pub(in crate::backend) admission: Cell<Admission>,
    /// The listener that accepted it.
    pub(in crate::backend) listener: ListenerNumber,
    pub(in crate::backend) endpoint: T,
    /// A task or thread waits until the socket takes bytes again. Nothing else sends meanwhile.
    pub(in crate::backend) blocked: Cell<bool>,
    /// Set by `abort`: the side that ended the connection.
    aborted: Cell<Option<ClosedBy>>,
    /// `end_sending` was called.
    lingers: Cell<bool>,
    /// The shard of its session, if the connection has to move there; else [`STAYS`], which no shard has for a number.
    home: Cell<u16>,
}

impl<T: Endpoint> Socket<T> {
    pub(super) fn new(id: ConnectionId, endpoint: T, admission: Admission, listener: ListenerNumber) -> Self {
        Self {
            id,
            admission: Cell::new(admission),
            listener,
            endpoint,
            blocked: Cell::new(false),
            aborted: Cell::new(None),
            lingers: Cell::new(false),
            home: Cell::new(STAYS),
        }
    }

    /// Ends sending. Arriving bytes are still read, so that no reset overtakes the sent ones. Returns whether this is
    /// the first call.
    pub(super) fn end_sending(&self) -> bool {
        // The call fails if the peer is gone already, and then no end is necessary.
        self.endpoint.shut_down(Shutdown::Write);
        !self.lingers.replace(true)
    }

    /// Ends both directions, which wakes the receiver. The first call says who ended the connection.
    pub(in crate::backend) fn abort(&self, by: ClosedBy) {
        self.aborted.set(Some(self.aborted.get().unwrap_or(by)));
        self.endpoint.shut_down(Shutdown::Both);
        self.endpoint.resume();
    }

    pub(in crate::backend) fn resume(&self) {
        self.endpoint.resume();
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.lingers.get()
    }

    pub(in crate::backend) fn is_aborted(&self) -> bool {
        self.aborted.get().is_some()
    }

    /// The side that ended the connection, if its receiver saw it end by `seen`.
    pub(in crate::backend) fn ended_by(&self, seen: ClosedBy) -> ClosedBy {
        self.aborted.get().unwrap_or(seen)
    }

    /// The session lives on shard `home`: the receiver moves the connection there, and nothing else happens on it
    /// here.
    pub(super) fn leave_for(&self, home: u16) {
        assert!(home != STAYS);
        self.home.set(home);
    }

    pub(in crate::backend) fn home(&self) -> Option<u16> {
        Some(self.home.get()).filter(|&home| home != STAYS)
    }
}

/// The side that ended a connection, by the error of a send or receive.
pub(in crate::backend) fn lost_by(error: &io::Error) -> ClosedBy {
    use io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
    if matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown) {
        ClosedBy::Silence
    } else {
        ClosedBy::Reset
    }
}

/// Whether a failed send or receive only has to be repeated.
pub(in crate::backend) fn is_transient(refused: &io::Error) -> bool {
    matches!(refused.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
