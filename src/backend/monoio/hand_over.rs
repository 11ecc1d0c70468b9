//! A connection leaves the shard that accepted it for the one where its session lives, right after its CONNECT.
//! Knows no session: the engine says where to.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use engine::{Admission, ClosedBy, Event};
use tracing::{debug, error};

use super::socket::Socket;
use super::{Shard, receive};
use crate::trouble::Trouble;

/// A connection between two shards. Nothing was sent on it, and nothing is in flight.
pub(crate) struct HandOver {
    descriptor: OwnedFd,
    /// CONNECT, and what was received behind it.
    bytes: Vec<u8>,
    /// The place, which the connection takes along.
    admission: Admission,
    /// `None` if the peer is gone already.
    peer: Option<SocketAddr>,
}

impl Shard {
    /// Sends a connection home; `rest` is what the engine did not consume.
    pub(super) fn depart(&self, socket: Rc<Socket>, home: u16, rest: &[u8]) {
        let departed = self.engine.borrow_mut().depart(socket.id);
        let Some(mut bytes) = departed else {
            // It ended in the same step.
            self.close(&socket, ClosedBy::Host);
            return;
        };
        bytes.extend_from_slice(rest);
        self.sockets.borrow_mut()[socket.id.slot() as usize] = None;
        let (connection, admission, peer) = (socket.id.slot(), socket.admission, socket.peer());
        debug!(shard = self.number, connection, ?peer, home, "handed over");
        let socket =
            Rc::into_inner(socket).expect("only its own task keeps a socket that nothing was sent on");
        let hand_over = HandOver { descriptor: socket.into_descriptor(), bytes, admission, peer };
        self.lanes.depart(home, hand_over);
        self.turn.wake_flusher();
    }

    /// Takes a connection in whose session lives here.
    pub(super) fn arrive(self: &Rc<Self>, source: u16, hand_over: HandOver) {
        let HandOver { descriptor, mut bytes, admission, peer } = hand_over;
        let stream = match monoio::net::TcpStream::from_std(descriptor.into()) {
            Ok(stream) => stream,
            Err(refused) => {
                error!(trouble = %Trouble::system("watch a connection", refused), "connection lost");
                self.places.leave(admission);
                return;
            }
        };
        let socket = self.open(stream, admission);
        debug!(shard = self.number, connection = socket.id.slot(), ?peer, source, "taken over");
        let consumed = self.step(Event::Received { connection: socket.id, bytes: &bytes }).bytes;
        bytes.drain(..consumed);
        if bytes.is_empty() {
            drop(monoio::spawn(receive::run(Rc::clone(self), socket)));
        } else {
            drop(monoio::spawn(receive::run_from(Rc::clone(self), socket, bytes)));
        }
    }
}
