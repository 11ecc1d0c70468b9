//! Watches the connections of a shard for bytes: one poll for the life of each, on a ring of its own. monoio has only polls
//! that end with their first event, and each of them costs a submission, a place of its own and a descriptor behind a
//! counter. A task of monoio watches the ring instead, and wakes the tasks of the connections.
//!
//! Invariants: an event tells that bytes came, not that there are some, so a connection that was not emptied counts as
//! readable until it is; and a place that is given up has another generation, so late events of its last poll find nothing.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, Waker};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, PollFlags, eventfd};

/// Submission queue entries. A turn submits for new and for closed connections only.
const SUBMISSION_ENTRIES: u32 = 1_024;
/// Completion queue entries: as many connections as may become readable in one turn without the slow overflow list.
const COMPLETION_ENTRIES: u32 = 32_768;
/// User data of an entry whose completion is of no interest.
const IGNORED: u64 = u64::MAX;
/// User data of a poll that only shows what the kernel can do. No connection has that place.
const PROBED: u64 = u64::MAX - 1;

/// The events of a poll. A peer's end has its own, because the receive that it comes with may take bytes only.
const READABLE: PollFlags = PollFlags::IN.union(PollFlags::RDHUP);
const ENDED: PollFlags = PollFlags::RDHUP.union(PollFlags::HUP).union(PollFlags::ERR);

/// **Lives on:** the shard. **Sees:** the sockets of its connections.
pub(super) struct Watcher {
    ring: RefCell<IoUring>,
    places: RefCell<Vec<Place>>,
    vacant: RefCell<Vec<u32>>,
    /// The task that submits, while there is nothing to submit.
    submitter: Cell<Option<Waker>>,
}

/// The state of one connection. A turn reads the places of all readable connections, so they are small.
#[derive(Default)]
struct Place {
    /// The task of the connection, from its first wait on.
    waker: Option<Waker>,
    generation: u32,
    /// Some of the constants below.
    facts: u8,
}

/// Bytes came since the last wait.
const CAME: u8 = 1;
/// The peer has ended, so that a receive always returns something.
const HAS_ENDED: u8 = 1 << 1;
/// The poll is submitted.
const ARMED: u8 = 1 << 2;
/// The poll was refused.
const FAILED: u8 = 1 << 3;
/// The task waits for bytes, and for nothing else.
const WAITS: u8 = 1 << 4;

/// Bytes of a place. A shard has one for each connection.
pub(super) const PLACE_BYTES: usize = size_of::<Place>();

const _: () = assert!(PLACE_BYTES == 24);

impl Watcher {
    /// # Errors
    /// If the system refuses such a ring or such polls.
    pub(super) fn new() -> io::Result<Self> {
        let mut ring = IoUring::builder();
        ring.setup_clamp().setup_cqsize(COMPLETION_ENTRIES);
        // Events are completed by the system calls of monoio's ring, without an interrupt; before Linux 5.19 with one.
        let mut ring = ring
            .setup_coop_taskrun()
            .build(SUBMISSION_ENTRIES)
            .or_else(|_| IoUring::builder().setup_cqsize(COMPLETION_ENTRIES).build(SUBMISSION_ENTRIES))?;
        probe(&mut ring)?;
        Ok(Self {
            ring: RefCell::new(ring),
            places: RefCell::default(),
            vacant: RefCell::default(),
            submitter: Cell::new(None),
        })
    }

    /// A duplicate of the ring's descriptor, which is readable while events wait.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        let ring = self.ring.borrow();
        let raw = ring.as_raw_fd();
        #[expect(unsafe_code, reason = "the crate's ring has no AsFd")]
        // SAFETY: the ring owns the descriptor, and is borrowed for longer than the result.
        let descriptor = unsafe { BorrowedFd::borrow_raw(raw) };
        descriptor.try_clone_to_owned()
    }

    /// Watches a socket from now on. Returns its place.
    pub(super) fn watch(&self, socket: impl AsFd) -> u32 {
        let number = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            let mut places = self.places.borrow_mut();
            places.push(Place::default());
            u32::try_from(places.len() - 1).expect("fewer connections than descriptors")
        });
        self.arm(number, socket.as_fd());
        number
    }

    fn arm(&self, number: u32, socket: BorrowedFd<'_>) {
        let user_data = {
            let place = &mut self.places.borrow_mut()[number as usize];
            place.facts |= ARMED;
            user_data(number, place.generation)
        };
        self.push(&poll_add(socket.as_raw_fd()).user_data(user_data));
    }

    /// Ends the watch of a place.
    pub(super) fn forget(&self, number: u32) {
        let (user_data, was_armed) = {
            let place = &mut self.places.borrow_mut()[number as usize];
            let before = user_data(number, place.generation);
            let was_armed = place.facts & ARMED != 0;
            *place = Place { generation: place.generation.wrapping_add(1), ..Place::default() };
            (before, was_armed)
        };
        self.vacant.borrow_mut().push(number);
        if was_armed {
            // Removing the poll would fail while it has an event to tell; cancelling it does not.
            self.push(&opcode::AsyncCancel::new(user_data).build().user_data(IGNORED));
        }
    }

    /// Closes a socket after its watch was ended. A poll that goes on would keep it open.
    pub(super) fn close(&self, socket: OwnedFd) {
        self.push(&opcode::Close::new(types::Fd(socket.into_raw_fd())).build().user_data(IGNORED));
    }

    /// Completes when bytes have come that were not received yet, or will not come any more; an error if the socket
    /// cannot be watched.
    pub(super) fn poll_readable(
        &self,
        number: u32,
        socket: BorrowedFd<'_>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let is_armed = {
            let place = &mut self.places.borrow_mut()[number as usize];
            if place.facts & FAILED != 0 {
                return Poll::Ready(Err(io::ErrorKind::Other.into()));
            }
            if place.facts & (CAME | HAS_ENDED) != 0 {
                place.facts &= !(CAME | WAITS);
                return Poll::Ready(Ok(()));
            }
            place.facts |= WAITS;
            if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                place.waker = Some(context.waker().clone());
            }
            place.facts & ARMED != 0
        };
        if !is_armed {
            self.arm(number, socket);
        }
        Poll::Pending
    }

    /// A receive has not emptied the socket, as far as is known.
    pub(super) fn keep_readable(&self, number: u32) {
        self.places.borrow_mut()[number as usize].facts |= CAME;
    }

    /// Wakes the tasks of the connections with new events.
    pub(super) fn dispatch(&self) {
        let mut ring = self.ring.borrow_mut();
        let mut places = self.places.borrow_mut();
        for entry in ring.completion() {
            if entry.user_data() == IGNORED {
                continue;
            }
            let (number, generation) = place_of(entry.user_data());
            let Some(place) = places.get_mut(number).filter(|place| place.generation == generation) else {
                continue;
            };
            place.facts |= match u16::try_from(entry.result()) {
                Ok(events) if PollFlags::from_bits_retain(events).intersects(ENDED) => CAME | HAS_ENDED,
                Ok(_) => CAME,
                Err(_) => FAILED,
            };
            // The kernel ends a poll whose event it could not tell. It is submitted again at the next wait.
            if !cqueue::more(entry.flags()) {
                place.facts &= !ARMED;
            }
            if place.facts & WAITS != 0 {
                place.facts &= !WAITS;
                place.waker.as_ref().expect("a task that waits has left its waker").wake_by_ref();
            }
        }
        // The kernel tells the events that overflowed only in a submission.
        if !ring.submission().is_empty() || ring.submission().cq_overflow() {
            self.wake_submitter();
        }
    }

    /// Submits once for everything that was pushed, whenever something was. Never completes.
    pub(super) async fn run_submitter(&self) -> Infallible {
        poll_fn(|context| {
            self.submit();
            self.submitter.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn wake_submitter(&self) {
        if let Some(submitter) = self.submitter.take() {
            submitter.wake();
        }
    }

    fn push(&self, entry: &squeue::Entry) {
        loop {
            #[expect(unsafe_code, reason = "the kernel reads through the pointers of an entry")]
            // SAFETY: the entries of this file have no pointer.
            let pushed = unsafe { self.ring.borrow_mut().submission().push(entry) };
            if pushed.is_ok() {
                break;
            }
            self.submit();
            // The kernel takes no entries while too many events wait.
            self.dispatch();
        }
        self.wake_submitter();
    }

    fn submit(&self) {
        // A refused submission leaves its entries for the next one, after events were taken.
        let _ = self.ring.borrow().submit();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Sockets that were given up are closed.
        self.submit();
    }
}

/// A poll for the life of a socket.
fn poll_add(socket: RawFd) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(socket), u32::from(READABLE.bits())).multi(true).build()
}

/// Checks that the kernel has such polls, since an old one takes their flag for an error only when it is used.
fn probe(ring: &mut IoUring) -> io::Result<()> {
    let readable = eventfd(1, EventfdFlags::CLOEXEC)?;
    for entry in [
        poll_add(readable.as_raw_fd()).user_data(PROBED),
        opcode::AsyncCancel::new(PROBED).build().user_data(IGNORED),
    ] {
        #[expect(unsafe_code, reason = "the kernel reads through the pointers of an entry")]
        // SAFETY: neither entry has a pointer.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        ring.submit_and_wait(1)?;
    }
    let goes_on = ring.completion().any(|entry| entry.user_data() == PROBED && cqueue::more(entry.flags()));
    if goes_on { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

fn user_data(number: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(number)
}

fn place_of(user_data: u64) -> (usize, u32) {
    let number = u32::try_from(user_data & u64::from(u32::MAX)).expect("the lower half");
    let generation = u32::try_from(user_data >> 32).expect("the upper half");
    (number as usize, generation)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::backend::direct;

    /// A watcher, the watched socket with its place, and its peer.
    fn watched() -> (Watcher, UnixStream, u32, UnixStream) {
        let watcher = Watcher::new().unwrap();
        let (socket, peer) = UnixStream::pair().unwrap();
        let place = watcher.watch(&socket);
        watcher.submit();
        (watcher, socket, place, peer)
    }

    fn is_readable(watcher: &Watcher, socket: &UnixStream, place: u32) -> bool {
        watcher.dispatch();
        let mut context = Context::from_waker(Waker::noop());
        matches!(watcher.poll_readable(place, socket.as_fd(), &mut context), Poll::Ready(Ok(())))
    }

    #[test]
    fn each_arrival_is_told_once_until_the_socket_is_said_to_have_more() {
        let (watcher, socket, place, mut peer) = watched();
        assert!(!is_readable(&watcher, &socket, place));
        for _ in 0..3 {
            peer.write_all(b"bytes").unwrap();
            assert!(is_readable(&watcher, &socket, place));
            assert!(!is_readable(&watcher, &socket, place));
            watcher.keep_readable(place);
            assert!(is_readable(&watcher, &socket, place));
        }
    }

    #[test]
    fn an_end_that_comes_with_bytes_is_told_until_it_is_received() {
        let (watcher, socket, place, mut peer) = watched();
        peer.write_all(b"bytes").unwrap();
        drop(peer);
        assert!((0..3).all(|_| is_readable(&watcher, &socket, place)));
    }

    #[test]
    fn a_late_event_of_an_earlier_connection_finds_nothing() {
        let (watcher, socket, place, mut peer) = watched();
        peer.write_all(b"bytes").unwrap();
        watcher.forget(place);
        let (next, _next_peer) = UnixStream::pair().unwrap();
        assert_eq!(watcher.watch(&next), place);
        watcher.submit();
        assert!(!is_readable(&watcher, &next, place));
        drop(socket);
    }

    #[test]
    fn a_closed_socket_ends_although_it_was_watched() {
        for _ in 0..20 {
            let (watcher, socket, place, mut peer) = watched();
            let has_written = AtomicBool::new(false);
            let peer = std::thread::scope(|scope| {
                let writing = scope.spawn(|| {
                    peer.write_all(b"bytes").unwrap();
                    has_written.store(true, Ordering::Release);
                    peer
                });
                // No system call, so that the poll still has its event to tell.
                while !has_written.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                watcher.forget(place);
                watcher.close(socket.into());
                watcher.submit();
                writing.join().unwrap()
            });
            // The bytes were never read, so the peer learns of a reset.
            let end = direct::receive(&peer, &mut [0]);
            assert!(
                matches!(&end, Ok(0))
                    || matches!(&end, Err(error) if error.kind() == io::ErrorKind::ConnectionReset),
                "{end:?}"
            );
        }
    }
}
