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
mod turn;

use std::io;

use crossbeam_channel::{Receiver, Sender, bounded};

use connection::Told;
pub(super) use turn::run;

/// What threads may have told a shard that it has not heard. Who finds no room waits: each of them has told one thing at
/// most.
const TOLD_MAX: usize = 1_024;

/// Of a connection's thread, which calls little.
const STACK_BYTES: usize = 128 << 10;

/// The shard's end of what it is told.
pub(crate) struct Inbox {
    told: Receiver<Told>,
    /// For the threads that it starts.
    tell: Sender<Told>,
}

/// Wakes the shard. **Lives on:** any thread.
#[derive(Debug)]
pub(in crate::backend) struct Bell(Sender<Told>);

impl Inbox {
    /// Both ends.
    pub(in crate::backend) fn new() -> (Self, Bell) {
        let (tell, told) = bounded(TOLD_MAX);
        let bell = Bell(tell.clone());
        (Self { told, tell }, bell)
    }
}

impl Bell {
    pub(in crate::backend) fn ring(&self) {
        // A shard with a full inbox does not sleep, and looks everywhere before it does.
        let _ = self.0.try_send(Told::Rung);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    thread.spawn(run).map(drop)
}
