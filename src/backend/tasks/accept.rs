//! The tasks that accept connections, and the choice of the shard that serves each of them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tracing::debug;

use super::{Listener, Runtime, Shard, Stream};
use crate::net::accept_backoff::ACCEPT_PAUSE;
use crate::net::listen::{ListenerNumber, Listening, OPTIONS_ARE_INHERITED};
use crate::net::permits::Permit;
use crate::process::clock;

impl<R: Runtime> Shard<R> {
    /// Starts to accept on a listener.
    pub(super) fn accept_on(
        self: &Rc<Self>,
        Listening { number, socket, is_shared }: Listening,
    ) -> io::Result<()> {
        let listener = Rc::new(self.runtime.listen(socket, is_shared)?);
        self.listening.borrow_mut().push(Rc::clone(&listener));
        for _ in 0..self.runtime.accept_tasks() {
            R::spawn(run(Rc::clone(self), Rc::clone(&listener), number));
        }
        Ok(())
    }

    fn take(
        self: &Rc<Self>,
        stream: R::Stream,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
        permit: Permit,
    ) {
        if !OPTIONS_ARE_INHERITED {
            // Without them the socket still works.
            let _ = stream.set_options();
        }
        let target = self.host.take_target();
        if target != self.host.number {
            self.distribute(target, stream, listener, peer, permit);
            return;
        }
        let socket = self.open(stream, self.layers_of(listener, peer), (listener, peer), permit);
        let connection = socket.id.slot();
        debug!(shard = self.host.number, connection, %listener, ?peer, admission = ?permit.admission, "accepted");
        self.serve(socket);
    }
}

async fn run<R: Runtime>(shard: Rc<Shard<R>>, listener: Rc<R::Listener>, number: ListenerNumber) {
    loop {
        match listener.accept().await {
            _ if shard.host.stopping.get() => return,
            Ok((stream, peer)) => {
                shard.error_log.succeeded();
                match shard.host.acquire(number, peer) {
                    Ok(permit) => shard.take(stream, number, peer, permit),
                    // The reserve for refusals is used up as well.
                    Err(refused) => shard.host.turn_away(number, peer, refused),
                }
            }
            Err(refused) => {
                if shard.error_log.must_pause(refused) {
                    R::timer(clock::read() + ACCEPT_PAUSE).await;
                }
            }
        }
        shard.host.turn.yield_now().await;
        while shard.turnstile.are_too_many() && !shard.host.stopping.get() {
            shard.host.turn.yield_now().await;
        }
    }
}
