//! A shard on blocking threads: one that receives for each connection, one that accepts for each listener, and the
//! shard's own thread, which runs the engine and sends. It is a reference for comparison, and serves systems without a
//! supported runtime.
//!
//! The receiving thread has one buffer. The buffer goes to the shard with the received bytes, and comes back when the
//! engine has consumed all of them. So a connection without credit is not read, and nothing of it is queued.
//!
//! The shard sends without waiting. Bytes that a socket does not take are written by a thread of that connection,
//! which is started when the connection first falls behind, and holds one lent chunk of the outbox at a time. So a
//! slow peer does not delay the others, and the outbox keeps its bound. All threads of a shard run on its core.

mod accept;
mod connection;
mod inbox;
mod turn;

use std::io;

pub(in crate::backend) use inbox::{Doorbell, Inbox};
pub(super) use turn::run;

/// Stack of a thread of a connection, whose calls are shallow.
const STACK_BYTES: usize = 128 << 10;

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    thread.spawn(run).map(drop)
}
