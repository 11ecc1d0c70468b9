//! Accepts connections and decides whether they are served.
//! Knows no protocol.

use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpListener;
use rustix::io::Errno;
use tracing::{debug, error};

use super::{Shard, receive};
use crate::clock;
use crate::listen::ListenerNumber;
use crate::trouble::Trouble;

/// Rest after a refusal of the system, which the next accept would only meet again.
const REST: Duration = Duration::from_millis(200);

/// Least time between two log lines about it.
const TOLD_EVERY: Duration = Duration::from_mins(1);

pub(super) async fn run(shard: Rc<Shard>, listener: Rc<TcpListener>, number: ListenerNumber) {
    loop {
        match listener.accept().await {
            _ if shard.stopping.get() => return,
            Ok((stream, peer)) => {
                let Some(admission) = shard.places.enter() else {
                    // Not even room to say no.
                    debug!(shard = shard.number, %peer, "refused without an answer");
                    continue;
                };
                // Without it a socket still works, only later.
                let _ = stream.set_nodelay(true);
                let socket = shard.open(stream, admission, number);
                let connection = socket.id.slot();
                debug!(shard = shard.number, connection, listener = %number, %peer, ?admission, "accepted");
                drop(monoio::spawn(receive::run(Rc::clone(&shard), socket)));
            }
            Err(refused) => {
                let gone = matches!(
                    Errno::from_io_error(&refused),
                    Some(Errno::CONNABORTED | Errno::CONNRESET | Errno::INTR)
                );
                if !gone {
                    if shard.may_tell_accept_trouble() {
                        error!(trouble = %Trouble::system("accept a connection", refused), "accepting rests");
                    }
                    monoio::time::sleep(REST).await;
                }
            }
        }
        shard.turn.yield_now().await;
    }
}

impl Shard {
    /// Whether a refused accept should be logged; most only repeat the last one.
    fn may_tell_accept_trouble(&self) -> bool {
        let now = clock::read();
        let told = self.accept_trouble_told.get();
        let may = told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        if may {
            self.accept_trouble_told.set(Some(now));
        }
        may
    }
}
