//! A shard on threads that block: one that receives for each connection, one that accepts for each listener, and the shard's
//! own, which runs the engine and sends. For comparison, and for systems on which no runtime serves.
//! Knows no runtime.
//!
//! Who receives has one buffer, which goes to the shard with what it holds and comes back when all of that was consumed: a
//! connection without credit is not read, and there is nothing of it to queue. The shard sends without waiting. What a socket
//! does not take is written by a thread of that connection, started when it first falls behind, which has one lent piece of
//! the outbox at a time: a slow peer holds up nobody else, and the outbox keeps its bound. All threads of a shard stay on its
//! core.

mod accept;
mod connection;
mod inbox;
mod turn;

use std::io;

pub(in crate::backend) use inbox::{Doorbell, Inbox};
pub(super) use turn::run;

/// Of a connection's thread, which calls little.
const STACK_BYTES: usize = 128 << 10;

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    thread.spawn(run).map(drop)
}
