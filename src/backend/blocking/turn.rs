//! The shard's own thread: handles the events of its other threads, turns, and sleeps when nothing is left to do.

use std::cell::Cell;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::Sender;
use engine::{ClosedBy, ConnectionId, Event, Lend};
use socket2::SockRef;
use tracing::debug;
use zeroize::{Zeroize as _, Zeroizing};

use super::accept::{Acceptor, Refusals};
use super::connection::{Resumed, Socket, ThreadEvent, Threaded, Unconsumed};
use super::inbox::{Inbox, InboxSender, Wake};
use crate::backend::Parts;
use crate::backend::host::{Departed, Endpoint, Flushed, HandOver, Host, Linger, Transport};
use crate::error::StartupError;
use crate::net::accept_backoff::ErrorLog;
use crate::net::listen::{Listening, OPTIONS_ARE_INHERITED, set_connection_options};
use crate::observe::connection_log::ConnectionLog;
use crate::process::clock::{self, Clock};
use crate::shard::control::Control;

/// **Lives on:** one thread. **Sees:** its host, and the events of the threads of its connections.
struct Shard {
    host: Host<Threaded>,
    inbox: InboxSender,
    resumed: Resumed,
    buffer_bytes: usize,
    /// Taken out during the flush of a turn.
    dirty: Cell<Vec<ConnectionId>>,
    /// Listeners to accept on once the control plane requests it.
    listeners: Vec<Listening>,
    acceptors: Vec<Acceptor>,
    /// Senders to answer at the end of the turn.
    quiesced: Vec<Sender<bool>>,
    linger: Option<Linger>,
    error_log: ErrorLog,
    /// For the threads that accept.
    log: ConnectionLog,
    clock: Clock,
}

/// Serves until the shard is stopped; returns when every client is closed or the deadline has passed.
///
/// # Errors
/// An error of the system before the first connection.
pub(in crate::backend) fn run(inbox: &Inbox, mut parts: Parts) -> Result<(), StartupError> {
    let control = parts.control.clone();
    let mut shard = Shard {
        inbox: inbox.sender(),
        resumed: Resumed::default(),
        buffer_bytes: parts.read_buffer_bytes,
        dirty: Cell::default(),
        listeners: mem::take(&mut parts.listeners),
        acceptors: Vec::new(),
        quiesced: Vec::new(),
        linger: None,
        error_log: ErrorLog::default(),
        log: parts.log.clone(),
        clock: parts.clock,
        host: Host::new(parts),
    };
    // Announces the restored subscriptions.
    let _nothing = shard.host.step(Event::Tick);
    let mut wake = Wake::Now;
    let mut events = Vec::new();
    loop {
        // Events that arrive from here on belong to the next turn.
        let is_rung = inbox.wait(&wake, &mut events);
        if is_rung && events.is_empty() && control.is_empty() && shard.host.has_no_answers() {
            shard.host.gauges.count_parked_wake();
        }
        for event in events.drain(..) {
            shard.handle(event);
        }
        shard.host.take_answers();
        for request in control.try_iter() {
            shard.handle_control(request)?;
        }
        wake = shard.turn();
        if let Some(linger) = &mut shard.linger {
            if linger.is_over(&shard.host.permits) {
                shard.host.end();
                return Ok(());
            }
            wake = wake.at_latest(clock::read() + Linger::POLL_INTERVAL);
        }
    }
}

impl Shard {
    fn handle(&self, event: ThreadEvent) {
        match event {
            ThreadEvent::Accepted { stream, listener, peer, permit } => {
                if !OPTIONS_ARE_INHERITED {
                    // Without them the socket still works.
                    let _ = set_connection_options(&SockRef::from(&stream));
                }
                let target = self.host.take_target();
                debug!(shard = self.host.number, %listener, ?peer, admission = ?permit.admission, target, "accepted");
                let hand_over = HandOver {
                    transport: Transport::plain(stream.into()),
                    listener,
                    bytes: Zeroizing::default(),
                    permit,
                    peer,
                    name: None,
                };
                if target == self.host.number {
                    self.arrive(target, hand_over);
                } else {
                    self.host.send_over(target, hand_over);
                }
            }
            ThreadEvent::Received { connection, buffer, length } => {
                if let Some(socket) = self.host.socket(connection) {
                    self.offer(&socket, Unconsumed { buffer, from: 0, to: length });
                }
            }
            ThreadEvent::Ended { connection, by } => {
                if let Some(socket) = self.host.socket(connection) {
                    self.end(&socket, by);
                }
            }
            ThreadEvent::Written { connection, chunk, sent_bytes } => {
                let all = sent_bytes == chunk.as_bytes().len();
                self.host.give_back(connection, chunk, sent_bytes);
                let socket =
                    self.host.socket(connection).expect("a connection stays open while a chunk is lent");
                socket.blocked.set(false);
                if let Some(by) = socket.endpoint.ended.get() {
                    self.end(&socket, by);
                } else if all {
                    self.host.turn.mark_dirty(connection);
                } else {
                    // The peer is gone. The receiver of this connection notices it next.
                    socket.abort(ClosedBy::Reset);
                }
            }
        }
    }

    /// Executes a request of the control plane.
    fn handle_control(&mut self, request: Control) -> Result<(), StartupError> {
        match request {
            Control::Accept => {
                for listening in self.listeners.drain(..) {
                    let refusals = Refusals { log: self.log.clone(), clock: self.clock };
                    let (permits, inbox) = (self.host.permits.clone(), self.inbox.clone());
                    let acceptor = Acceptor::start(listening, permits, inbox, refusals)
                        .map_err(|error| StartupError::system("start a thread that accepts", error))?;
                    self.acceptors.push(acceptor);
                }
            }
            Control::Turn(number) => self.host.gauges.complete_turn(number),
            Control::Publish(messages) => self.host.publish_sys(&messages),
            Control::Rules(rules) => self.host.change_rules(rules.as_ref()),
            Control::Limits(limits) => self.host.change_limits(&limits),
            // A broker with this kind of I/O changes no listener: see `Listeners::prepare`.
            Control::Tables(_, known) => drop(known),
            Control::Listeners(_) => {}
            Control::Revoked => self.host.begin_revocation(),
            Control::Drain { is_on, server_reference } => self.host.drain(is_on, &server_reference),
            Control::SendAway { count, is_overdue } => self.host.send_away(count, is_overdue),
            Control::Ask(asked) => self.host.answer(&asked),
            Control::ExportSubscriptions => self.host.begin_export(),
            Control::Quiesce(answer) => {
                self.host.quiesce();
                self.quiesced.push(answer);
            }
            Control::Stop(deadline) => self.stop(deadline),
        }
        Ok(())
    }

    /// Disconnects every client, because the broker stops.
    fn stop(&mut self, deadline: Duration) {
        self.host.stopping.set(true);
        self.acceptors.drain(..).for_each(Acceptor::stop);
        let _nothing = self.host.step(Event::Stop);
        self.linger = Some(Linger::begin(deadline));
    }

    fn turn(&mut self) -> Wake {
        let host = &self.host;
        for connection in self.resumed.take() {
            if let Some(socket) = host.socket(connection)
                && let Some(unconsumed) = socket.endpoint.take_unconsumed()
            {
                self.offer(&socket, unconsumed);
            }
        }
        // Messages from other shards are flushed at the end of this turn. Messages for other shards leave before the
        // sends, so that those shards process them meanwhile.
        host.drain_lanes(|source, hand_over| self.arrive(source, hand_over));
        host.fill_lanes();
        host.tick_if_due();
        // The disk works while this turn sends.
        host.serve_journal();
        let mut dirty = self.dirty.take();
        host.turn.take_dirty(&mut dirty);
        for id in dirty.drain(..) {
            self.flush(id);
        }
        self.dirty.set(dirty);
        // The sends made room in outboxes, which can produce messages for other shards.
        host.fill_lanes();
        let due = host.end_turn();
        for answer in self.quiesced.drain(..) {
            let _ = answer.send(host.is_idle());
        }
        if !host.may_sleep() || !self.resumed.borrow().is_empty() {
            return Wake::Now;
        }
        due.map_or(Wake::Never, Wake::At)
    }

    /// Takes over a connection that was accepted here, that another shard distributed to this one, or whose session
    /// lives here.
    fn arrive(&self, source: u16, hand_over: HandOver) {
        let HandOver { transport, listener, mut bytes, permit, peer, .. } = hand_over;
        if bytes.is_empty() && self.host.stopping.get() {
            // The connection has sent nothing, and no shard accepts connections any more.
            self.host.permits.release(permit.admission, listener, peer);
            return;
        }
        let stream = transport.into_plain();
        let socket =
            self.host.open(permit, (listener, peer), |id| Threaded::new(id, stream.into(), &self.resumed));
        debug!(shard = self.host.number, connection = socket.id.slot(), %listener, ?peer, source, "taken over");
        if let Err(refused) = socket.endpoint.start(&self.inbox) {
            self.error_log.log("start the thread of a connection", refused, "connection lost");
            self.host.close(&socket, ClosedBy::Host);
            return;
        }
        let to = bytes.len();
        self.offer(&socket, Unconsumed { buffer: mem::take(&mut *bytes), from: 0, to });
    }

    /// Feeds the engine, and receives more once it has consumed all bytes.
    fn offer(&self, socket: &Rc<Socket>, mut unconsumed: Unconsumed) {
        if unconsumed.from < unconsumed.to && !socket.is_aborted() {
            let bytes = &unconsumed.buffer[unconsumed.from..unconsumed.to];
            unconsumed.from += self.host.offer(socket.id, bytes).bytes;
        }
        if let Some(home) = socket.home() {
            self.depart(socket, home, &unconsumed.buffer[unconsumed.from..unconsumed.to]);
        } else if unconsumed.from < unconsumed.to && !socket.is_aborted() {
            socket.endpoint.unconsumed.set(Some(unconsumed));
        } else {
            let mut buffer = unconsumed.buffer;
            // A buffer from another shard has a different size, up to that of a packet.
            if buffer.len() != self.buffer_bytes {
                // It has a CONNECT.
                buffer.zeroize();
            }
            if buffer.capacity() > self.buffer_bytes {
                buffer = Vec::new();
            }
            buffer.resize(self.buffer_bytes, 0);
            socket.endpoint.receive_into(buffer);
        }
    }

    /// Sends a connection to the shard of its session; `rest` is the part that the engine did not consume.
    fn depart(&self, socket: &Socket, home: u16, rest: &[u8]) {
        let Some(Departed { bytes, permit, peer, name }) = self.host.depart(socket, home, rest) else {
            return;
        };
        let listener = socket.listener;
        match socket.endpoint.try_clone_socket() {
            Ok(stream) => {
                let transport = Transport::plain(stream.into());
                let hand_over = HandOver { transport, listener, bytes, permit, peer, name };
                self.host.send_over(home, hand_over);
            }
            Err(refused) => {
                self.error_log.log("hand a connection over", refused, "connection lost");
                self.host.permits.release(permit.admission, listener, peer);
            }
        }
    }

    fn flush(&self, id: ConnectionId) {
        let Some(socket) = self.host.socket(id) else { return };
        if socket.blocked.get() {
            return;
        }
        match self.host.flush(&socket) {
            Flushed::Done => {}
            Flushed::More => self.host.turn.mark_dirty(id),
            Flushed::Blocked => self.write(&socket),
        }
    }

    /// Passes the next chunk to the connection's writing thread.
    fn write(&self, socket: &Socket) {
        match self.host.lend(socket.id) {
            Lend::Chunk(chunk) => match socket.endpoint.write(chunk, &self.inbox) {
                Ok(()) => socket.blocked.set(true),
                Err((chunk, refused)) => {
                    self.error_log.log("start the thread of a connection", refused, "connection lost");
                    self.host.give_back(socket.id, chunk, 0);
                    socket.abort(ClosedBy::Host);
                }
            },
            Lend::Idle => {}
            Lend::Close => self.host.turn.mark_dirty(socket.id),
        }
    }

    /// Ends the connection: no more bytes will be received.
    fn end(&self, socket: &Socket, by: ClosedBy) {
        if socket.blocked.get() {
            // Shutting the socket down makes the writing thread return its chunk.
            socket.endpoint.ended.set(Some(by));
            socket.endpoint.shut_down(std::net::Shutdown::Both);
            return;
        }
        self.host.close(socket, socket.ended_by(by));
    }
}
