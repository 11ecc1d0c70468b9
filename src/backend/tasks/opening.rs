//! The task of a connection whose layers are not open: it receives as `receive` does, but a handshake of TLS waits for a permit.

use std::rc::Rc;

use tracing::debug;

use super::layered::Layered;
use super::receive::{self, Received};
use super::socket::Socket;
use super::{Runtime, Shard};
use crate::backend::host::lost_by;

/// Until packets of MQTT can pass, or the peer is gone.
pub(super) async fn run<R: Runtime>(shard: Rc<Shard<R>>, socket: Rc<Socket<R::Stream>>) {
    let needs_permit = || socket.endpoint.layers().is_some_and(Layered::need_permit);
    loop {
        if let Err(refused) = socket.endpoint.readable(&shard.host.turn).await {
            return shard.host.close(&socket, socket.ended_by(lost_by(&refused)));
        }
        let received = if needs_permit() {
            shard.handshakes.permit().await;
            shard.handshakes.measure(|| shard.receive(&socket))
        } else {
            shard.receive(&socket)
        };
        let is_open = socket.endpoint.layers().is_none_or(Layered::are_open);
        if is_open {
            let certificate = socket.endpoint.layers().and_then(Layered::peer_certificate);
            debug!(shard = shard.host.number, connection = socket.id.slot(), ?certificate, "layers are open");
        }
        match received {
            Received::All | Received::Nothing if socket.home().is_none() && !is_open => {}
            received => return receive::go_on(&shard, socket, received),
        }
    }
}
