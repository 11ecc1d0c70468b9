//! The task of one connection: waits until the socket is readable, receives, and feeds the engine, until the peer is
//! gone.

use std::io;
use std::rc::Rc;

use engine::{ClosedBy, Consumed};

use super::layered::Layered;
use super::socket::Socket;
use super::{Runtime, Shard, Stream};
use crate::backend::host::{is_transient, lost_by};

/// Result of one receive.
pub(super) enum Received {
    /// The engine consumed all bytes.
    All,
    /// The engine left these bytes, for lack of credit or because the connection moves.
    Rest(Vec<u8>),
    Nothing,
    /// The peer is gone, or has sent DISCONNECT.
    End(ClosedBy),
}

/// The task of a connection without layers until its first bytes, which are a CONNECT: of a storm of them each waits for its permit.
pub(super) async fn run_first<R: Runtime>(shard: Rc<Shard<R>>, socket: Rc<Socket<R::Stream>>) {
    if let Err(refused) = socket.endpoint.readable(&shard.host.turn).await {
        return leave(&shard, socket, lost_by(&refused));
    }
    let received = shard.pass(|| shard.receive(&socket)).await;
    go_on(&shard, socket, received);
}

/// The task of a connection. An async function would store its arguments twice, and every idle connection has this
/// future.
#[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
pub(super) fn run<R: Runtime>(
    shard: Rc<Shard<R>>,
    socket: Rc<Socket<R::Stream>>,
) -> impl Future<Output = ()> + 'static {
    async move {
        loop {
            if let Err(refused) = socket.endpoint.readable(&shard.host.turn).await {
                // A task that waits for writability returns its chunk before it waits, so no chunk is lent here.
                return leave(&shard, socket, lost_by(&refused));
            }
            match shard.receive(&socket) {
                Received::All | Received::Nothing if socket.home().is_none() => {}
                received => return go_on(&shard, socket, received),
            }
        }
    }
}

/// Goes on with a connection by another task, or none, after a receive: each task holds only what its part needs, and an idle
/// connection the least.
pub(super) fn go_on<R: Runtime>(shard: &Rc<Shard<R>>, socket: Rc<Socket<R::Stream>>, received: Received) {
    let rest = match received {
        Received::End(by) if socket.home().is_none() => {
            return leave(shard, socket, by);
        }
        Received::All | Received::Nothing | Received::End(_) => Vec::new(),
        Received::Rest(rest) => rest,
    };
    if let Some(home) = socket.home() {
        shard.depart(socket, home, rest);
    } else if rest.is_empty() {
        R::spawn(run(Rc::clone(shard), socket));
    } else {
        R::spawn(run_from(Rc::clone(shard), socket, rest));
    }
}

/// Closes a connection whose peer is gone: at once, or if many end in this turn, once it has a permit.
pub(super) fn leave<R: Runtime>(shard: &Rc<Shard<R>>, socket: Rc<Socket<R::Stream>>, by: ClosedBy) {
    // The system closes a socket that is dropped, so that is a part of the step.
    let close = move |shard: &Shard<R>, socket: Rc<Socket<R::Stream>>| {
        shard.host.close(&socket, socket.ended_by(by));
        drop(socket);
    };
    if shard.turnstile.is_open() {
        return shard.pass_now(|| close(shard, socket));
    }
    let shard = Rc::clone(shard);
    R::spawn(async move { shard.pass(|| close(&shard, socket)).await });
}

/// The task of a connection of which the engine has not consumed `rest`.
pub(super) async fn run_from<R: Runtime>(shard: Rc<Shard<R>>, socket: Rc<Socket<R::Stream>>, rest: Vec<u8>) {
    let kept_bytes = rest.capacity();
    shard.host.keep(kept_bytes);
    let rest = offer_again(&shard, &socket, rest).await;
    shard.host.let_go(kept_bytes);
    if let Some(home) = socket.home() {
        return shard.depart(socket, home, rest);
    }
    // No event of the socket tells of an end that a layer has seen already.
    if socket.endpoint.layers().is_some_and(Layered::have_ended) {
        return leave(&shard, socket, ClosedBy::Peer);
    }
    // A separate task, because its future is smaller than this one.
    R::spawn(run(shard, socket));
}

/// Keeps the unconsumed bytes, and offers them when the engine has credit, before newer bytes. Returns the remaining
/// bytes when the connection moves or has ended.
#[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
fn offer_again<R: Runtime>(
    shard: &Shard<R>,
    socket: &Socket<R::Stream>,
    mut rest: Vec<u8>,
) -> impl Future<Output = Vec<u8>> {
    async move {
        while !rest.is_empty() && !socket.is_aborted() {
            socket.endpoint.credit().await;
            // There is credit at once if the last step only had done its share of work: then others come first.
            shard.host.turn.yield_now().await;
            let consumed = shard.host.offer(socket.id, &rest);
            rest.drain(..consumed.bytes);
            if socket.home().is_some() {
                break;
            }
        }
        rest
    }
}

impl<R: Runtime> Shard<R> {
    pub(super) fn receive(&self, socket: &Socket<R::Stream>) -> Received {
        if let Some(layers) = socket.endpoint.layers() {
            return self.receive_through(layers, socket);
        }
        let mut buffer = self.receive_buffer.take();
        let received = match socket.endpoint.stream.receive(&mut buffer) {
            Ok(0) => Received::End(ClosedBy::Peer),
            Ok(length) => self.offer(socket, &buffer[..length]),
            Err(refused) if is_transient(&refused) => Received::Nothing,
            Err(refused) => Received::End(lost_by(&refused)),
        };
        self.receive_buffer.set(buffer);
        received
    }

    fn offer(&self, socket: &Socket<R::Stream>, bytes: &[u8]) -> Received {
        match self.host.offer(socket.id, bytes) {
            Consumed { may_close_at_once: true, .. } => Received::End(ClosedBy::Peer),
            Consumed { bytes: consumed, .. } if consumed == bytes.len() => Received::All,
            Consumed { bytes: consumed, .. } => Received::Rest(bytes[consumed..].to_vec()),
        }
    }

    #[cold]
    fn receive_through(&self, layers: &Layered, socket: &Socket<R::Stream>) -> Received {
        let mut plain = self.layers.take_plain();
        let came = layers.receive(&socket.endpoint.stream, &mut plain);
        if let Some(client) = self.layers.take_client() {
            self.host.set_client(socket, client);
        }
        if layers.are_pending() {
            self.host.turn.mark_dirty(socket.id);
        }
        let mut received = Received::Nothing;
        if !plain.is_empty() {
            self.host.identify(socket);
            received = self.offer(socket, &plain);
        }
        self.layers.give_back_plain(plain);
        match came {
            Ok(()) if layers.have_ended() && !matches!(received, Received::Rest(_)) => {
                // The answer to a farewell, as far as the kernel takes it.
                let _ = layers.flush(&socket.endpoint.stream, false);
                received = Received::End(ClosedBy::Peer);
            }
            Ok(()) => {}
            Err(refused) if is_transient(&refused) => {}
            Err(refused) if refused.kind() == io::ErrorKind::UnexpectedEof => {
                received = Received::End(ClosedBy::Peer);
            }
            Err(refused) => {
                if refused.kind() == io::ErrorKind::InvalidData {
                    // The alert, as far as the kernel takes it.
                    let _ = layers.flush(&socket.endpoint.stream, false);
                    self.host.log_tls_failure(socket.id, &refused);
                }
                received = Received::End(lost_by(&refused));
            }
        }
        received
    }
}
