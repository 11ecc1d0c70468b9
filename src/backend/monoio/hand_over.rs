//! A connection leaves the shard that accepted it for the one where its session lives, right after its CONNECT.
//! Knows no session: the engine says where to.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use engine::{Admission, ClosedBy, Event};
use tracing::{debug, error};

use super::socket::Socket;
use super::{Shard, receive};
use crate::listen::ListenerNumber;
use crate::trouble::Trouble;

/// What a connection's bytes pass through, as it travels between two shards: each kind brings its state along.
enum Transport {
    /// The socket itself.
    Tcp(OwnedFd),
}

/// A connection between two shards. Nothing was sent on it, and nothing is in flight.
pub(crate) struct HandOver {
    transport: Transport,
    /// The listener it came by, whose bounds and rules go on to hold for it.
    listener: ListenerNumber,
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
        let (connection, peer) = (socket.id.slot(), socket.peer());
        let (admission, listener) = (socket.admission, socket.listener);
        debug!(shard = self.number, connection, %listener, ?peer, home, "handed over");
        let socket =
            Rc::into_inner(socket).expect("only its own task keeps a socket that nothing was sent on");
        let transport = Transport::Tcp(socket.into_descriptor());
        let hand_over = HandOver { transport, listener, bytes, admission, peer };
        self.lanes.depart(home, hand_over);
        self.turn.wake_flusher();
    }

    /// Takes a connection in whose session lives here.
    pub(super) fn arrive(self: &Rc<Self>, source: u16, hand_over: HandOver) {
        let HandOver { transport, listener, mut bytes, admission, peer } = hand_over;
        let Transport::Tcp(descriptor) = transport;
        let stream = match monoio::net::TcpStream::from_std(descriptor.into()) {
            Ok(stream) => stream,
            Err(refused) => {
                error!(trouble = %Trouble::system("watch a connection", refused), "connection lost");
                self.places.leave(admission);
                return;
            }
        };
        let socket = self.open(stream, admission, listener);
        debug!(shard = self.number, connection = socket.id.slot(), %listener, ?peer, source, "taken over");
        let consumed = self.step(Event::Received { connection: socket.id, bytes: &bytes }).bytes;
        bytes.drain(..consumed);
        if bytes.is_empty() {
            drop(monoio::spawn(receive::run(Rc::clone(self), socket)));
        } else {
            drop(monoio::spawn(receive::run_from(Rc::clone(self), socket, bytes)));
        }
    }
}
