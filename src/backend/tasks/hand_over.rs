//! A connection moves to another shard: to the next one in turn where the first shard distributes connections, or to
//! the shard of its session after its CONNECT. The engine determines the shard of a session.

use std::net::SocketAddr;
use std::rc::Rc;

use engine::Event;
use tracing::debug;

use super::socket::{Socket, TaskSocket};
use super::{Runtime, Shard, Stream, receive};
use crate::backend::host::{Endpoint, HandOver, Transport};
use crate::net::listen::ListenerNumber;
use crate::net::permits::Permit;

impl<R: Runtime> Shard<R> {
    /// Sends a connection to the shard of its session; `rest` is the part that the engine did not consume.
    pub(super) fn depart(&self, socket: Rc<Socket<R::Stream>>, home: u16, rest: &[u8]) {
        let Some((bytes, permit)) = self.host.depart(&socket, home, rest) else { return };
        let socket = Rc::into_inner(socket)
            .expect("only its own task has a reference to a socket that nothing was sent on");
        let (listener, peer) = (socket.listener, socket.endpoint.peer());
        self.send_over(home, socket.endpoint.stream, listener, bytes, permit, peer);
    }

    /// Sends a new connection to the next shard in turn.
    pub(super) fn distribute(
        &self,
        target: u16,
        stream: R::Stream,
        listener: ListenerNumber,
        peer: SocketAddr,
        permit: Permit,
    ) {
        debug!(shard = self.host.number, %listener, %peer, admission = ?permit.admission, target, "distributed");
        self.send_over(target, stream, listener, Vec::new(), permit, Some(peer));
    }

    fn send_over(
        &self,
        target: u16,
        stream: R::Stream,
        listener: ListenerNumber,
        bytes: Vec<u8>,
        permit: Permit,
        peer: Option<SocketAddr>,
    ) {
        match stream.into_std() {
            Ok(stream) => {
                let transport = Transport::Tcp(stream);
                self.host.send_over(target, HandOver { transport, listener, bytes, permit, peer });
            }
            Err(refused) => self.drop_connection(refused, permit),
        }
    }

    /// Takes over a connection that another shard distributed to this one, or whose session lives here.
    pub(super) fn arrive(self: &Rc<Self>, source: u16, hand_over: HandOver) {
        let HandOver { transport: Transport::Tcp(stream), listener, mut bytes, permit, peer } = hand_over;
        if bytes.is_empty() && self.host.stopping.get() {
            // The connection has sent nothing, and no shard accepts connections any more.
            self.host.permits.release(permit.admission);
            return;
        }
        let stream = match self.runtime.watch(stream) {
            Ok(stream) => stream,
            Err(refused) => return self.drop_connection(refused, permit),
        };
        let socket = self.host.open(permit, (listener, peer), |_| TaskSocket::new(stream));
        debug!(shard = self.host.number, connection = socket.id.slot(), %listener, ?peer, source, "taken over");
        if !bytes.is_empty() {
            let mut buffer = self.receive_buffer.take();
            self.host.receive_from_rival(&bytes, &mut buffer);
            self.receive_buffer.set(buffer);
            let consumed = self.host.step(Event::Received { connection: socket.id, bytes: &bytes }).bytes;
            bytes.drain(..consumed);
        }
        if bytes.is_empty() {
            R::spawn(receive::run(Rc::clone(self), socket));
        } else {
            R::spawn(receive::run_from(Rc::clone(self), socket, bytes));
        }
    }

    fn drop_connection(&self, refused: std::io::Error, permit: Permit) {
        self.error_log.log("watch a connection", refused, "connection lost");
        self.host.permits.release(permit.admission);
    }
}
