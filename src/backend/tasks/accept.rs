//! The tasks that accept connections, and the choice of the shard that serves each of them.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tracing::{debug, error};

use super::{Listener, Runtime, Shard, Stream};
use crate::net::accept_backoff::ACCEPT_PAUSE;
use crate::net::listen::{ListenerChange, ListenerNumber, Listening, OPTIONS_ARE_INHERITED};
use crate::net::permits::Permit;
use crate::process::clock;

/// A socket that the shard accepts on.
pub(super) struct Accepting<R: Runtime> {
    listener: R::Listener,
    /// Its number, which becomes another one when its listener changes.
    number: Cell<ListenerNumber>,
    is_closed: Cell<bool>,
}

impl<R: Runtime> Accepting<R> {
    /// Accepts no more.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.listener.close();
    }
}

impl<R: Runtime> Shard<R> {
    /// Starts to accept on a listener.
    pub(super) fn accept_on(
        self: &Rc<Self>,
        Listening { number, socket, is_shared }: Listening,
    ) -> io::Result<()> {
        let listener = self.runtime.listen(socket, is_shared)?;
        let accepting =
            Rc::new(Accepting { listener, number: Cell::new(number), is_closed: Cell::new(false) });
        self.listening.borrow_mut().push(Rc::clone(&accepting));
        for _ in 0..self.runtime.accept_tasks() {
            R::spawn(run(Rc::clone(self), Rc::clone(&accepting)));
        }
        Ok(())
    }

    /// Accepts on other sockets from now on, and ends the clients of listeners that are gone.
    pub(super) fn change_listeners(self: &Rc<Self>, change: ListenerChange) {
        let ListenerChange { open, renumber, close, ended } = change;
        for accepting in self.listening.borrow().iter() {
            let other = renumber.iter().find(|(from, _)| *from == accepting.number.get());
            if let Some((_, to)) = other {
                accepting.number.set(*to);
            }
        }
        for listening in open {
            let place = listening.place();
            if let Err(refused) = self.accept_on(listening) {
                error!(shard = self.host.number, %refused, "this shard cannot accept on {place}; restart the broker");
            }
        }
        self.listening.borrow_mut().retain(|accepting| {
            let stays = !close.contains(&accepting.number.get());
            if !stays {
                accepting.close();
            }
            stays
        });
        self.host.end_listeners(ended);
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
        let socket = self.open(stream, self.host.layers_of(listener, peer), (listener, peer), permit);
        let connection = socket.id.slot();
        debug!(shard = self.host.number, connection, %listener, ?peer, admission = ?permit.admission, "accepted");
        self.serve(socket);
    }
}

async fn run<R: Runtime>(shard: Rc<Shard<R>>, accepting: Rc<Accepting<R>>) {
    loop {
        match accepting.listener.accept().await {
            _ if shard.host.stopping.get() || accepting.is_closed.get() => return,
            Ok((stream, peer)) => {
                shard.error_log.succeeded();
                let number = accepting.number.get();
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
