//! The task of a connection whose layers are not open: it receives as `receive` does, but a handshake of TLS waits at the turnstile.

use std::io;
use std::rc::Rc;

use engine::ClosedBy;
use tracing::debug;

use super::layered::Layered;
use super::receive::{self, Received};
use super::socket::Socket;
use super::{Runtime, Shard, Stream};
use crate::backend::host::lost_by;
use crate::net::tls::{HandshakeEnd, ListenerTls, Shared};
use crate::process::clock;

const TOO_MANY_BYTES: &str =
    "too many bytes of unknown peers (unjudged_bytes_max), and this one held the most or was the oldest";

/// Until packets of MQTT can pass, or the peer is gone.
pub(super) async fn run<R: Runtime>(shard: Rc<Shard<R>>, socket: Rc<Socket<R::Stream>>) {
    let needs_permit = || socket.endpoint.layers().is_some_and(Layered::need_permit);
    let (opening, began) = (shard.openings.begin(socket.id), clock::read());
    let mut handshake = BegunHandshake::of(&socket);
    loop {
        if let Err(refused) = socket.endpoint.readable(&shard.host.turn).await {
            return receive::leave(&shard, socket, lost_by(&refused));
        }
        let received =
            if needs_permit() { shard.pass(|| shard.receive(&socket)).await } else { shard.receive(&socket) };
        handshake.look(&socket);
        if let Some(layers) = socket.endpoint.layers() {
            // Our own answers are not held against a peer that takes them.
            let _ = layers.flush(&socket.endpoint.stream, false);
        }
        opening.hold(socket.endpoint.layers().map_or(0, Layered::held_bytes));
        shard.close_debtor();
        let is_open = socket.endpoint.layers().is_none_or(Layered::are_open);
        if is_open {
            if !matches!(received, Received::End(_)) {
                shard.host.take_handshake_time(began);
            }
            let certificate = socket.endpoint.layers().and_then(Layered::peer_certificate);
            debug!(shard = shard.host.number, connection = socket.id.slot(), ?certificate, "layers are open");
            // The handshake may have begun under lists that have changed meanwhile.
            shard.host.close_if_revoked(&socket);
        }
        match received {
            Received::All | Received::Nothing if socket.home().is_none() && !is_open => {}
            received => {
                drop(opening);
                return receive::go_on(&shard, socket, received);
            }
        }
    }
}

/// A handshake of TLS that is under way. TLS counts the others; one that does not come to its end is counted here.
struct BegunHandshake(Option<Shared<ListenerTls>>);

impl BegunHandshake {
    fn of<S: Stream>(socket: &Socket<S>) -> Self {
        Self(socket.endpoint.layers().and_then(Layered::handshaking_listener))
    }

    fn look<S: Stream>(&mut self, socket: &Socket<S>) {
        if !socket.endpoint.layers().is_some_and(Layered::need_permit) {
            self.0 = None;
        }
    }
}

impl Drop for BegunHandshake {
    fn drop(&mut self) {
        if let Some(listener) = &self.0 {
            listener.count_handshake(HandshakeEnd::Unfinished);
        }
    }
}

impl<R: Runtime> Shard<R> {
    /// Closes the connection that holds most of the bytes for unknown peers, if there are too many.
    fn close_debtor(&self) {
        let Some(socket) = self.openings.debtor().and_then(|debtor| self.host.socket(debtor)) else { return };
        self.host.log_tls_failure(socket.id, &io::Error::other(TOO_MANY_BYTES));
        socket.abort(ClosedBy::Host);
    }
}
