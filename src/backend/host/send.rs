//! The way of bytes out of the outboxes: lent by the engine, sent through the endpoint, given back with the number that the kernel
//! has taken. Behind them goes what the layers of a connection have to say themselves.

use engine::{Chunk, ConnectionId, Lend};

use super::{Endpoint, Host, Socket, is_transient, lost_by};

/// Chunks sent to one connection in a turn. A fast reader with a long queue must not delay the others.
const PIECES_PER_TURN: usize = 16;

/// Result of a flush of one connection.
pub(in crate::backend) enum Flushed {
    Done,
    /// More bytes may wait; flush again in the next turn.
    More,
    /// The socket takes no more bytes for now.
    Blocked,
}

impl<T: Endpoint> Host<T> {
    /// Sends the content of an outbox, as far as the socket takes it.
    pub(in crate::backend) fn flush(&self, socket: &Socket<T>) -> Flushed {
        let mut engine = self.engine.borrow_mut();
        let mut actions = self.actions.borrow_mut();
        let mut flushed = Flushed::More;
        for _ in 0..PIECES_PER_TURN {
            let mut chunk = match engine.lend(socket.id) {
                Lend::Chunk(chunk) => chunk,
                Lend::Idle => {
                    flushed = Self::flush_own(socket, false);
                    break;
                }
                Lend::Close => {
                    flushed = Self::flush_own(socket, true);
                    if matches!(flushed, Flushed::Done) && socket.end_sending() {
                        self.permits.begin_linger();
                    }
                    break;
                }
            };
            let length = chunk.as_bytes().len();
            let sent = socket.endpoint.send(chunk.as_bytes());
            let sent_bytes = *sent.as_ref().unwrap_or(&0);
            if sent_bytes < length {
                chunk.hold(sent_bytes + socket.endpoint.begun_bytes());
            }
            if self.traces.is_on() {
                self.traces.sent(&engine, socket.id, &chunk.as_bytes()[..sent_bytes]);
            }
            engine.give_back(self.clock.now(), socket.id, chunk, sent_bytes, &mut actions);
            match sent {
                Ok(sent) if sent == length => {}
                Ok(_) => {
                    flushed = Flushed::Blocked;
                    break;
                }
                Err(refused) if is_transient(&refused) => {
                    flushed = Flushed::Blocked;
                    break;
                }
                Err(refused) => {
                    // The peer is gone. The receiver of this connection notices it next.
                    socket.abort(lost_by(&refused));
                    flushed = Flushed::Done;
                    break;
                }
            }
        }
        self.carry_out(&mut engine, &mut actions);
        flushed
    }

    fn flush_own(socket: &Socket<T>, ends: bool) -> Flushed {
        match socket.endpoint.flush_own(ends) {
            Ok(true) => Flushed::Done,
            Ok(false) => Flushed::Blocked,
            Err(refused) if is_transient(&refused) => Flushed::Blocked,
            Err(refused) => {
                // The peer is gone. The receiver of this connection notices it next.
                socket.abort(lost_by(&refused));
                Flushed::Done
            }
        }
    }

    /// Lends the next chunk of an outbox to a thread that sends it later.
    pub(in crate::backend) fn lend(&self, id: ConnectionId) -> Lend {
        self.engine.borrow_mut().lend(id)
    }

    /// Takes a lent chunk back, of which `sent_bytes` were sent.
    pub(in crate::backend) fn give_back(&self, id: ConnectionId, chunk: Chunk, sent_bytes: usize) {
        // This can be the first action of a turn.
        self.begin_turn();
        let mut engine = self.engine.borrow_mut();
        let mut actions = self.actions.borrow_mut();
        if self.traces.is_on() {
            self.traces.sent(&engine, id, &chunk.as_bytes()[..sent_bytes]);
        }
        engine.give_back(self.clock.now(), id, chunk, sent_bytes, &mut actions);
        self.carry_out(&mut engine, &mut actions);
    }
}
