//! Traces of packets on a shard. Bytes are looked at where they come from a socket and where they go to one, once for each receive and
//! send, so a packet costs nothing while nobody follows any.
//!
//! Invariant: a trace for which nobody asks any more ends by itself.

use std::cell::{Cell, RefCell};

use engine::{ConnectionId, Consumed, Engine};
use wire::TopicFilter;

use super::{Endpoint, Host};
use crate::admin::operator::{Answer, Page};
use crate::observe::packet_trace::{Direction, Trace, TraceTarget};

/// Traces of a shard at the same time.
const TRACES_MAX: usize = 4;

/// Time after the last request of an operator in which a trace ends.
const IDLE_MS: u64 = 10_000;

/// The first byte of CONNECT.
const CONNECT: u8 = 0x10;

/// The traces of a shard.
#[derive(Default)]
pub(super) struct Traces {
    is_on: Cell<bool>,
    list: RefCell<Vec<Trace>>,
    /// Bytes of them that are counted as held.
    counted: Cell<usize>,
}

impl Traces {
    /// Whether somebody follows packets.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// Bytes of an outbox were sent.
    #[cold]
    pub(super) fn sent(&self, engine: &Engine, id: ConnectionId, bytes: &[u8]) {
        for trace in &mut *self.list.borrow_mut() {
            // A connection that was never seen may be in the middle of a packet.
            if let Some(position) = engine.stream_position(id) {
                trace.see(id.slot(), id, &engine::StreamPosition { is_sent_whole: false, ..position });
            }
            trace.pass(id.slot(), id, Direction::Out, bytes);
        }
    }
}

impl<T: Endpoint> Host<T> {
    /// Offers received bytes to the engine.
    pub(in crate::backend) fn offer(&self, id: ConnectionId, bytes: &[u8]) -> Consumed {
        if self.traces.is_on() { self.offer_traced(id, bytes) } else { self.offer_untraced(id, bytes) }
    }

    /// Offers bytes to the engine, and passes those that it takes to the traces.
    #[cold]
    fn offer_traced(&self, id: ConnectionId, bytes: &[u8]) -> Consumed {
        let now_ms = self.clock.now().as_ms();
        self.end_traces(now_ms);
        self.see(id, false);
        let was_known = self.engine.borrow().stream_position(id).is_some();
        let consumed = self.offer_untraced(id, bytes);
        if !was_known && bytes.first() == Some(&CONNECT) {
            self.see(id, true);
        }
        for trace in &mut *self.traces.list.borrow_mut() {
            trace.pass(id.slot(), id, Direction::In, &bytes[..consumed.bytes]);
        }
        self.count_traces();
        consumed
    }

    /// Has the traces see where a connection stands; `at_connect`: its CONNECT alone has come, and nothing was sent.
    fn see(&self, id: ConnectionId, at_connect: bool) {
        let engine = self.engine.borrow();
        let Some(position) = engine.stream_position(id) else { return };
        let is_received_whole = at_connect || position.is_received_whole;
        let is_sent_whole = at_connect || position.is_sent_whole;
        for trace in &mut *self.traces.list.borrow_mut() {
            let position = engine::StreamPosition { is_received_whole, is_sent_whole, ..position };
            trace.see(id.slot(), id, &position);
        }
    }

    fn end_traces(&self, now_ms: u64) {
        let mut traces = self.traces.list.borrow_mut();
        traces.retain(|trace| now_ms.saturating_sub(trace.asked_ms()) <= IDLE_MS);
        self.traces.is_on.set(!traces.is_empty());
        drop(traces);
        self.count_traces();
    }

    /// Counts the bytes that the traces hold.
    fn count_traces(&self) {
        let held = self.traces.list.borrow().iter().map(Trace::bytes_held).sum();
        self.let_go(self.traces.counted.replace(held));
        self.keep(held);
    }

    /// The rows of a trace from a number on; it begins with the first request, at its end.
    pub(super) fn trace(&self, target: &TraceTarget, payload_bytes_max: usize, from: Option<u64>) -> Answer {
        if let TraceTarget::Topic(filter) = target
            && TopicFilter::parse(filter).is_err()
        {
            return Answer::NotUnderstood;
        }
        let now_ms = self.clock.now().as_ms();
        self.end_traces(now_ms);
        let mut traces = self.traces.list.borrow_mut();
        let at = match traces.iter().position(|trace| trace.target() == target) {
            Some(at) => at,
            None if traces.len() == TRACES_MAX => return Answer::Busy,
            None => {
                let mut trace = Trace::new(target.clone(), self.number);
                self.look_at_all(&mut trace);
                traces.push(trace);
                self.traces.is_on.set(true);
                traces.len() - 1
            }
        };
        let trace = &mut traces[at];
        trace.ask(now_ms, payload_bytes_max);
        self.look_again(trace);
        let from = from.unwrap_or_else(|| trace.end());
        let mut page = Page::default();
        let (mut first, mut next) = (None, from);
        for (number, row) in trace.rows_from(from) {
            let shown = || {
                let mut row = row.clone();
                if payload_bytes_max == 0 {
                    row.payload = None;
                }
                row
            };
            if !page.take(row.text_bytes(), shown) {
                break;
            }
            first.get_or_insert(number);
            next = number + 1;
        }
        let dropped = first.map_or(0, |first| first.saturating_sub(from));
        // A trace that has ended meanwhile counts from 0 again.
        let next = next.min(trace.end());
        Answer::Trace { rows: page.into_rows(), dropped, left_out: trace.left_out(), next }
    }

    /// Has a trace that begins see all connections.
    fn look_at_all(&self, trace: &mut Trace) {
        let engine = self.engine.borrow();
        for socket in self.sockets.borrow().iter().flatten() {
            if let Some(position) = engine.stream_position(socket.id) {
                trace.see(socket.id.slot(), socket.id, &position);
            }
        }
    }

    /// Has a trace see where the connections that it follows stand now, and forget those that have ended.
    fn look_again(&self, trace: &mut Trace) {
        let engine = self.engine.borrow();
        for (slot, id) in trace.followed() {
            match engine.stream_position(id) {
                Some(position) => trace.see(slot, id, &position),
                None => trace.forget(slot),
            }
        }
    }
}
