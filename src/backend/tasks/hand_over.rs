//! A connection moves to another shard: to the next one in turn where the first shard distributes connections, or to
//! the shard of its session after its CONNECT. The engine determines the shard of a session.

use std::net::SocketAddr;
use std::rc::Rc;

use tracing::debug;
use zeroize::Zeroizing;

use super::layered::Layered;
use super::receive::Received;
use super::socket::{Socket, TaskSocket};
use super::{Runtime, Shard, Stream, opening, receive};
use crate::backend::host::{Departed, HandOver, Transport};
use crate::net::layers::{Client, Layers};
use crate::net::listen::ListenerNumber;
use crate::net::permits::Permit;

impl<R: Runtime> Shard<R> {
    /// Sends a connection to the shard of its session; `rest` is the part that the engine did not consume.
    pub(super) fn depart(self: &Rc<Self>, socket: Rc<Socket<R::Stream>>, home: u16, rest: Vec<u8>) {
        if socket.blocked.get() {
            R::spawn(depart_later(Rc::clone(self), socket, home, rest));
            return;
        }
        let Some(Departed { bytes, permit, peer, name }) = self.host.depart(&socket, home, &rest) else {
            return;
        };
        let socket = Rc::into_inner(socket)
            .expect("only its own task has a reference to a socket that nobody waits to send on");
        let listener = socket.listener;
        let (stream, layers) = socket.endpoint.into_parts();
        match stream.into_socket() {
            Ok(socket) => {
                let transport = Transport { socket, layers: layers.map(Box::new) };
                self.host.send_over(home, HandOver { transport, listener, bytes, permit, peer, name });
            }
            Err(refused) => self.drop_connection(refused, permit, (listener, peer)),
        }
    }

    /// Sends a new connection to the next shard in turn.
    pub(super) fn distribute(
        &self,
        target: u16,
        stream: R::Stream,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
        permit: Permit,
    ) {
        debug!(shard = self.host.number, %listener, ?peer, admission = ?permit.admission, target, "distributed");
        match stream.into_socket() {
            Ok(socket) => {
                let (transport, bytes) = (Transport::plain(socket), Zeroizing::default());
                let hand_over = HandOver { transport, listener, bytes, permit, peer, name: None };
                self.host.send_over(target, hand_over);
            }
            Err(refused) => self.drop_connection(refused, permit, (listener, peer)),
        }
    }

    /// Takes over a connection that another shard distributed to this one, or whose session lives here: at once, or if many come and go
    /// in this turn, once it has a permit. As many as have permits of connections may wait for that.
    pub(super) fn arrive(self: &Rc<Self>, source: u16, hand_over: HandOver) {
        if self.turnstile.is_open() {
            return self.pass_now(|| self.take_over(source, hand_over));
        }
        let shard = Rc::clone(self);
        let kept_bytes = hand_over.bytes.capacity();
        self.host.keep(kept_bytes);
        let hand_over = Box::new(hand_over);
        R::spawn(async move {
            shard.pass(|| shard.take_over(source, *hand_over)).await;
            shard.host.let_go(kept_bytes);
        });
    }

    fn take_over(self: &Rc<Self>, source: u16, hand_over: HandOver) {
        let HandOver { transport, listener, bytes, permit, peer, name } = hand_over;
        let Transport { socket, layers } = transport;
        if bytes.is_empty() && self.host.stopping.get() {
            // The connection has sent nothing, and no shard accepts connections any more.
            self.host.permits.release(permit.admission, listener, peer);
            return;
        }
        let stream = match self.runtime.watch(socket) {
            Ok(stream) => stream,
            Err(refused) => return self.drop_connection(refused, permit, (listener, peer)),
        };
        let layers =
            if bytes.is_empty() { self.host.layers_of(listener, peer) } else { layers.map(|layers| *layers) };
        let socket = self.open(stream, layers, (listener, peer), permit);
        debug!(shard = self.host.number, connection = socket.id.slot(), %listener, ?peer, source, "taken over");
        // The look at all connections may have been over before this one came.
        self.host.close_if_ended(&socket);
        if bytes.is_empty() {
            return self.serve(socket);
        }
        self.host.set_client(&socket, Client { peer: None, name });
        self.host.identify(&socket);
        if socket.endpoint.layers().is_some_and(Layered::are_pending) {
            self.host.turn.mark_dirty(socket.id);
        }
        let mut buffer = self.receive_buffer.take();
        let buffer_bytes = buffer.len();
        self.host.receive_from_rival(socket.id, &bytes, &mut buffer);
        buffer.truncate(buffer_bytes);
        self.receive_buffer.set(buffer);
        let consumed = self.host.offer(socket.id, &bytes).bytes;
        let rest = &bytes[consumed..];
        let received = if rest.is_empty() { Received::All } else { Received::Rest(rest.to_vec()) };
        receive::go_on(self, socket, received);
    }

    /// Registers a connection with the host.
    pub(super) fn open(
        &self,
        stream: R::Stream,
        layers: Option<Layers>,
        from: (ListenerNumber, Option<SocketAddr>),
        permit: Permit,
    ) -> Rc<Socket<R::Stream>> {
        let layers = layers.map(|layers| Layered::new(layers, &self.layers));
        self.host.open(permit, from, |_| TaskSocket::new(stream, layers))
    }

    /// Serves a connection from which nothing has come.
    pub(super) fn serve(self: &Rc<Self>, socket: Rc<Socket<R::Stream>>) {
        if socket.endpoint.layers().is_none() {
            R::spawn(receive::run_first(Rc::clone(self), socket));
        } else {
            R::spawn(opening::run(Rc::clone(self), socket));
        }
    }

    fn drop_connection(
        &self,
        refused: std::io::Error,
        permit: Permit,
        (listener, peer): (ListenerNumber, Option<SocketAddr>),
    ) {
        self.error_log.log("watch a connection", refused, "connection lost");
        self.host.permits.release(permit.admission, listener, peer);
    }
}

/// Departs once the task that waits to send has ended. The time-out of CONNECT bounds the wait: it closes the socket.
async fn depart_later<R: Runtime>(
    shard: Rc<Shard<R>>,
    socket: Rc<Socket<R::Stream>>,
    home: u16,
    rest: Vec<u8>,
) {
    let kept_bytes = rest.capacity();
    shard.host.keep(kept_bytes);
    while socket.blocked.get() {
        socket.endpoint.credit().await;
    }
    shard.host.let_go(kept_bytes);
    shard.depart(socket, home, rest);
}
