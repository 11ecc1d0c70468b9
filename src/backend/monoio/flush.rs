//! The flusher, which ends each turn: lanes drained and filled, one send for each dirty connection, and then sleep, if there
//! is nothing left to do.
//! Knows nothing of receiving.

use std::rc::Rc;

use engine::{ConnectionId, Event, Lend};
use ring::Parked;
use rustix::io::Errno;

use super::Shard;
use super::socket::Socket;

/// Pieces sent to one connection in a turn; a fast reader with a long queue must not hold up the others.
const PIECES_PER_TURN: usize = 16;

enum Flushed {
    Done,
    /// There may be more: once again next turn.
    More,
    /// The socket takes no more for now.
    Blocked,
}

pub(super) async fn run(shard: Rc<Shard>) {
    let mut batch: Vec<ConnectionId> = Vec::new();
    let mut more: Vec<ConnectionId> = Vec::new();
    loop {
        shard.turn.next().await;
        // What other shards sent is flushed with the rest of this turn, and what this turn made for them leaves before the
        // sends, so that they work on it meanwhile.
        shard.drain_lanes();
        shard.fill_lanes();
        shard.tick_if_due();
        shard.turn.take_dirty(&mut batch);
        for id in batch.drain(..) {
            let Some(socket) = shard.socket(id) else { continue };
            if socket.blocked.get() {
                continue;
            }
            match shard.flush(&socket) {
                Flushed::Done => {}
                Flushed::More => more.push(id),
                Flushed::Blocked => {
                    socket.blocked.set(true);
                    drop(monoio::spawn(when_writable(Rc::clone(&shard), socket)));
                }
            }
        }
        if !more.is_empty() {
            // Marked by a task of its own, since the flusher must not wake itself.
            drop(monoio::spawn(mark_next_turn(Rc::clone(&shard), std::mem::take(&mut more))));
        }
        // The sends made room in outboxes, and what that let happen may concern other shards.
        shard.fill_lanes();
        shard.end_turn();
        if shard.lanes.park() == Parked::Work || shard.turn.is_dirty() {
            shard.turn.go_on();
        }
    }
}

async fn mark_next_turn(shard: Rc<Shard>, ids: Vec<ConnectionId>) {
    shard.turn.yield_now().await;
    for id in ids {
        shard.turn.mark_dirty(id);
    }
}

async fn when_writable(shard: Rc<Shard>, socket: Rc<Socket>) {
    let alive = socket.writable().await;
    socket.blocked.set(false);
    if alive && !socket.is_aborted() {
        shard.turn.mark_dirty(socket.id);
    }
}

impl Shard {
    /// Timers of the runtime come only when the thread sleeps, so while it is busy the flusher looks.
    fn tick_if_due(&self) {
        let due = self.engine.borrow().next_deadline();
        if due.is_some_and(|due| due <= self.clock.now()) {
            let _nothing = self.step(Event::Tick);
        }
    }

    fn flush(&self, socket: &Socket) -> Flushed {
        let mut engine = self.engine.borrow_mut();
        let mut actions = self.actions.borrow_mut();
        let mut flushed = Flushed::More;
        for _ in 0..PIECES_PER_TURN {
            let chunk = match engine.lend(socket.id) {
                Lend::Chunk(chunk) => chunk,
                Lend::Idle => {
                    flushed = Flushed::Done;
                    break;
                }
                Lend::Close => {
                    if socket.end_sending() {
                        self.places.tell();
                    }
                    flushed = Flushed::Done;
                    break;
                }
            };
            let length = chunk.as_bytes().len();
            let sent = socket.send(chunk.as_bytes());
            engine.give_back(self.clock.now(), socket.id, chunk, sent.unwrap_or(0), &mut actions);
            match sent {
                Ok(sent) if sent == length => {}
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {
                    flushed = Flushed::Blocked;
                    break;
                }
                Err(_) => {
                    // The peer is gone: the connection's task learns it by its next receive.
                    socket.abort();
                    flushed = Flushed::Done;
                    break;
                }
            }
        }
        self.carry_out(&mut engine, &mut actions);
        flushed
    }
}
