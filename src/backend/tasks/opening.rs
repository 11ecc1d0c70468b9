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
use crate::net::tls::Handshake;
use crate::shard::gauges::{Gauges, HandshakeResult};

const TOO_MANY_BYTES: &str =
    "too many bytes of unknown peers (unjudged_bytes_max), and this one held the most or was the oldest";

/// Until packets of MQTT can pass, or the peer is gone.
pub(super) async fn run<R: Runtime>(shard: Rc<Shard<R>>, socket: Rc<Socket<R::Stream>>) {
    let needs_permit = || socket.endpoint.layers().is_some_and(Layered::need_permit);
    let opening = shard.openings.begin(socket.id);
    let mut handshake = CountedHandshake::begin(&shard.host.gauges, &socket);
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

/// A handshake of TLS, which is counted once by its result.
struct CountedHandshake<'a> {
    gauges: &'a Gauges,
    is_under_way: bool,
}

impl<'a> CountedHandshake<'a> {
    fn begin<S: Stream>(gauges: &'a Gauges, socket: &Socket<S>) -> Self {
        let handshake = socket.endpoint.layers().and_then(Layered::handshake);
        Self { gauges, is_under_way: handshake == Some(Handshake::UnderWay) }
    }

    fn look<S: Stream>(&mut self, socket: &Socket<S>) {
        let handshake = socket.endpoint.layers().and_then(Layered::handshake);
        let result = match handshake {
            _ if !self.is_under_way => return,
            None | Some(Handshake::UnderWay) => return,
            Some(Handshake::Full) => HandshakeResult::Full,
            Some(Handshake::Resumed) => HandshakeResult::Resumed,
            Some(Handshake::Failed) => HandshakeResult::Failed,
        };
        self.is_under_way = false;
        self.gauges.count_handshake(result);
    }
}

impl Drop for CountedHandshake<'_> {
    fn drop(&mut self) {
        if self.is_under_way {
            self.gauges.count_handshake(HandshakeResult::Unfinished);
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
