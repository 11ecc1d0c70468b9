//! The work of a shard once per turn: one send per dirty connection, and waking the tasks that yielded.
//!
//! The first connection made dirty in a turn wakes the flusher, which the run queue puts after every queued task. A task
//! never wakes itself: monoio 0.2.4 puts such a task at the front of the queue, where it starves all others. Tasks that
//! yield are therefore woken by the flusher.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use clap::ValueEnum;
use monoio::io::AsyncWriteRent;

use crate::connection::{Connection, Sent};

/// The way of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Send {
    /// The flusher calls `send(2)`.
    Direct,
    /// The flusher submits one write per dirty connection, all in one submission.
    Submitted,
    /// A long-lived task per connection writes.
    Writer,
}

/// **Lives on:** the shard. **Sees:** the connections made dirty in this turn.
pub(crate) struct Turn {
    send: Send,
    dirty: RefCell<Vec<Rc<Connection>>>,
    yielded: RefCell<Vec<Waker>>,
    /// The flusher, while it sleeps.
    flusher: Cell<Option<Waker>>,
}

impl Turn {
    pub(crate) fn new(send: Send) -> Self {
        Self { send, dirty: RefCell::default(), yielded: RefCell::default(), flusher: Cell::new(None) }
    }

    /// Marks `connection`'s outbox as not empty. Called by any task except the flusher.
    pub(crate) fn mark_dirty(&self, connection: &Rc<Connection>) {
        if connection.dirty.replace(true) {
            return;
        }
        if self.send == Send::Writer {
            if let Some(writer) = connection.writer.take() {
                writer.wake();
            }
            return;
        }
        self.dirty.borrow_mut().push(Rc::clone(connection));
        self.wake_flusher();
    }

    /// Lets every other runnable task and the driver run first.
    pub(crate) async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            self.yielded.borrow_mut().push(context.waker().clone());
            self.wake_flusher();
            Poll::Pending
        })
        .await;
    }

    fn wake_flusher(&self) {
        if let Some(flusher) = self.flusher.take() {
            flusher.wake();
        }
    }

    /// The flusher; runs for ever.
    pub(crate) async fn flush(self: Rc<Self>) {
        match self.send {
            Send::Direct => self.flush_direct().await,
            Send::Submitted => self.flush_submitted().await,
            // Only tasks that yielded need it.
            Send::Writer => self.end_of_turn().await,
        }
    }

    async fn flush_direct(self: Rc<Self>) {
        let mut batch = Vec::new();
        loop {
            self.end_of_turn().await;
            batch.append(&mut self.dirty.borrow_mut());
            for connection in batch.drain(..) {
                connection.dirty.set(false);
                if connection.sending.get() || connection.closed.get() {
                    continue;
                }
                match connection.send() {
                    Sent::All => {}
                    Sent::Blocked => {
                        connection.sending.set(true);
                        drop(monoio::spawn(resume_when_writable(Rc::clone(&self), connection)));
                    }
                    Sent::Failed => connection.closed.set(true),
                }
            }
        }
    }

    async fn flush_submitted(self: Rc<Self>) {
        let mut in_flight = Vec::new();
        let mut finished = Vec::new();
        let mut batch = Vec::new();
        poll_fn(|context| {
            batch.append(&mut self.dirty.borrow_mut());
            for connection in batch.drain(..) {
                connection.dirty.set(false);
                if connection.sending.replace(true) || connection.closed.get() {
                    continue;
                }
                let write = write_outbox(connection);
                // The allocation of a finished future is reused.
                let slot: Pin<Box<_>> = match finished.pop() {
                    None => Box::pin(write),
                    Some(mut slot) => {
                        Pin::set(&mut slot, write);
                        slot
                    }
                };
                in_flight.push(slot);
            }
            let mut index = 0;
            while let Some(write) = in_flight.get_mut(index) {
                if write.as_mut().poll(context).is_ready() {
                    finished.push(in_flight.swap_remove(index));
                } else {
                    index += 1;
                }
            }
            self.wake_yielded();
            self.flusher.set(Some(context.waker().clone()));
            Poll::<()>::Pending
        })
        .await;
    }

    /// Sleeps until a connection is dirty; wakes the tasks that yielded meanwhile.
    async fn end_of_turn(&self) {
        poll_fn(|context| {
            self.wake_yielded();
            if self.dirty.borrow().is_empty() {
                self.flusher.set(Some(context.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    fn wake_yielded(&self) {
        for task in self.yielded.borrow_mut().drain(..) {
            task.wake();
        }
    }
}

/// The long-lived task of [`Send::Writer`].
pub(crate) async fn write_for_ever(connection: Rc<Connection>) {
    while !connection.closed.get() {
        poll_fn(|context| {
            if connection.dirty.replace(false) || connection.closed.get() {
                return Poll::Ready(());
            }
            connection.writer.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        write_outbox(Rc::clone(&connection)).await;
    }
}

/// Submits the outbox as one write, and bytes added meanwhile as the next, until it is empty.
async fn write_outbox(connection: Rc<Connection>) {
    let Some(mut half) = connection.write_half.take() else { return };
    while !connection.closed.get() && !connection.outbox.borrow().is_empty() {
        let mut bytes = connection.outbox.replace(connection.spare.take());
        let (result, returned) = half.write(bytes).await;
        bytes = returned;
        match result {
            Ok(length) if length == bytes.len() => {}
            Ok(length) => {
                // A short write: the rest goes before the bytes added meanwhile.
                bytes.drain(..length);
                bytes.append(&mut connection.outbox.borrow_mut());
                connection.outbox.swap(&RefCell::new(bytes));
                continue;
            }
            Err(_) => connection.closed.set(true),
        }
        bytes.clear();
        connection.spare.replace(bytes);
    }
    connection.write_half.set(Some(half));
    connection.sending.set(false);
}

async fn resume_when_writable(turn: Rc<Turn>, connection: Rc<Connection>) {
    if connection.stream().writable(false).await.is_err() {
        connection.closed.set(true);
    }
    connection.sending.set(false);
    turn.mark_dirty(&connection);
}
