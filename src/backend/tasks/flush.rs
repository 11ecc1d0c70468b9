//! The flusher, the task that ends each turn: it drains and fills the lanes, sends once for each dirty connection, and
//! sleeps if nothing is left to do.

use std::rc::Rc;

use engine::ConnectionId;

use super::socket::Socket;
use super::{Runtime, Shard, Stream};
use crate::backend::host::{Flushed, TOUCHED_AHEAD};

pub(super) async fn run<R: Runtime>(shard: Rc<Shard<R>>) {
    let host = &shard.host;
    let mut batch: Vec<ConnectionId> = Vec::new();
    let mut more: Vec<ConnectionId> = Vec::new();
    loop {
        host.turn.next().await;
        // Messages from other shards are flushed at the end of this turn. Messages for other shards leave before the
        // sends, so that those shards process them meanwhile.
        host.drain_lanes(|source, hand_over| shard.arrive(source, hand_over));
        host.fill_lanes();
        host.tick_if_due();
        // The disk works while this turn sends.
        host.serve_journal();
        host.turn.take_dirty(&mut batch);
        for ahead in batch.chunks(TOUCHED_AHEAD) {
            host.touch(ahead);
            for &id in ahead {
                let Some(socket) = host.socket(id) else { continue };
                if socket.blocked.get() {
                    continue;
                }
                match host.flush(&socket) {
                    Flushed::Done => {}
                    Flushed::More => more.push(id),
                    Flushed::Blocked => {
                        socket.blocked.set(true);
                        R::spawn(when_writable(Rc::clone(&shard), socket));
                    }
                }
            }
        }
        batch.clear();
        if !more.is_empty() {
            // A separate task marks them, because the flusher must not wake itself.
            R::spawn(mark_next_turn(Rc::clone(&shard), std::mem::take(&mut more)));
        }
        // The sends made room in outboxes, which can produce messages for other shards.
        host.fill_lanes();
        shard.deadline.set(host.end_turn());
        if !host.may_sleep() | shard.turnstile.end_turn(host.turn.begun_count()) {
            host.turn.go_on();
        }
    }
}

async fn mark_next_turn<R: Runtime>(shard: Rc<Shard<R>>, ids: Vec<ConnectionId>) {
    shard.host.turn.yield_now().await;
    for id in ids {
        shard.host.turn.mark_dirty(id);
    }
}

async fn when_writable<R: Runtime>(shard: Rc<Shard<R>>, socket: Rc<Socket<R::Stream>>) {
    let alive = socket.endpoint.stream.writable().await.is_ok();
    socket.blocked.set(false);
    if alive && !socket.is_aborted() {
        shard.host.turn.mark_dirty(socket.id);
    }
    if socket.home().is_some() {
        // It could not depart while this task referred to it.
        socket.resume();
    }
}
