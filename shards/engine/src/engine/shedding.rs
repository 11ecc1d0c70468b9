//! Shedding: above the first mark of memory, readers that do not keep up lose what waits for them, the largest first. Before, the
//! clients that hold the most are found for a report.
//!
//! Invariants worth naming:
//! - Both walk over a bounded number of slots in each step, and go on in the next tick.
//! - Only QoS 0 is lost, and only of an outbox beyond its share of the ceiling. So nobody's messages are lost because of what others hold.
//! - A reader that takes bytes as they come keeps them: bytes are taken back that have waited while the reader could have had them.
//! - Nothing is judged to be late while the host is paused.

use super::Rooms;
use crate::base::ids::{ConnectionId, SessionId};
use crate::cause::Cause;
use crate::connection::Connection;
use crate::connection::outbox::shed::{Shed, Taken};
use crate::counters::DropReason;
use crate::notice::cut;
use crate::turn::{Ending, Turn};

/// A client that holds less is not named, and a smaller outbox is not worth a look, unless its reader is known to be slow.
const BYTES_MIN: u64 = 1024;
/// Bytes that have waited for so long may be taken back, in milliseconds: longer than a turn takes to send them.
const WAITED_MS_MIN: u64 = 100;
/// How long a reader may take nothing while memory is short, in milliseconds.
const IDLE_MS_MAX: u64 = 10_000;
/// Slots that are passed for one unit of work.
const SLOTS_PER_WORK: u32 = 4;
/// Work of closing a connection.
const CLOSE_WORK: u32 = 8;

impl Rooms {
    /// Does one step's share of the report and of shedding.
    pub(super) fn run_shedding(&mut self, turn: &mut Turn<'_>) {
        // The report comes first: it names those who lose something below.
        if !self.paused && self.take_census(turn) {
            self.shed(turn);
        }
    }

    /// Goes on with the report, if one is due. Returns whether none is under way any more.
    fn take_census(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(mut census) = self.shedding.take_census(self.pressure.level(), turn.now) else {
            return true;
        };
        let sessions = &self.delivery.sessions;
        while !census.is_done(sessions.slot_count()) {
            if turn.is_spent() {
                self.shedding.put_back(census);
                return false;
            }
            let slot = census.next_slot();
            turn.spend(u32::from(slot % SLOTS_PER_WORK == 0));
            if let Some(id) = sessions.id_at(slot)
                && let Some(session) = sessions.get(id)
            {
                let connection = session.connection().and_then(|id| self.delivery.connections.get(id));
                let bytes = session.debt_bytes() + connection.map_or(0, Connection::debt_bytes);
                if bytes >= BYTES_MIN {
                    census.add(bytes, id);
                }
            }
        }
        let report = census.into_report(|id| Some(cut(sessions.get(id)?.client_id())));
        self.shedding.set_report(report);
        true
    }

    fn shed(&mut self, turn: &mut Turn<'_>) {
        while self.pressure.sheds() && !turn.is_spent() && !self.shedding.rests(turn.now) {
            let connections = &self.delivery.connections;
            let Some(at) = self.shedding.slot(turn.now, connections.slot_count()) else {
                turn.spend(1);
                continue;
            };
            turn.spend(u32::from(at % SLOTS_PER_WORK == 0));
            if connections.id_at(at).is_none_or(|id| self.shed_one(turn, id)) {
                self.shedding.advance();
            }
        }
        if !self.pressure.sheds() {
            self.shedding.end();
        }
    }

    /// Sheds one outbox if this pass takes it: a reader that took nothing for a time is closed, and one that has too much waiting loses
    /// what is of QoS 0. Returns whether the pass goes on to the next one.
    fn shed_one(&mut self, turn: &mut Turn<'_>, id: ConnectionId) -> bool {
        let cut_at = self.shedding.take_cut(id);
        let connections = &mut self.delivery.connections;
        let Some(debt) = connections.look_at_outbox(turn.now, id, BYTES_MIN) else { return true };
        let is_stalled = self.shedding.idle_ms(turn.now, debt.idle_ms()) >= IDLE_MS_MAX;
        let is_beyond_share =
            debt.bytes() > self.pressure.outbox_bytes_max() && debt.waited_ms() >= WAITED_MS_MIN;
        let has_turn =
            cut_at.is_some() || ((is_stalled || is_beyond_share) && self.shedding.takes(debt.bytes()));
        if !has_turn {
            return true;
        }
        let kind = if is_stalled { Shed::All } else { Shed::QoS0 };
        let from_piece = cut_at.filter(|_| !is_stalled).unwrap_or(0);
        let terms = (kind, from_piece, turn.work_left());
        let Some((owner, taken)) = connections.shed(turn.now, id, terms) else { return true };
        self.account_for(turn, owner, &taken);
        if let Some(next_piece) = taken.next_piece() {
            assert!(turn.is_spent() && !is_stalled);
            self.shedding.set_cut(id, next_piece);
            return false;
        }
        if is_stalled {
            turn.spend(CLOSE_WORK);
            turn.endings.push(Ending::Connection(id, Cause::ReaderStalled));
            self.settle(turn);
        } else if let Some(session) = owner
            && self.delivery.connections.get(id).is_some_and(Connection::has_empty_outbox)
        {
            // Nothing is left to be sent, so nothing else makes room for what waits in the queue.
            self.delivery.deliver_pending(turn, session);
            self.retained.schedule(&mut self.delivery.sessions, session);
        }
        self.weigh(turn);
        true
    }

    /// Counts what was lost, and the work of it.
    fn account_for(&mut self, turn: &mut Turn<'_>, owner: Option<SessionId>, taken: &Taken) {
        turn.spend(taken.work());
        match owner.and_then(|owner| self.delivery.sessions.get_mut(owner)) {
            Some(session) => session.count_dropped(turn.counters, DropReason::Memory, taken.qos0_count()),
            None => turn.counters.dropped[DropReason::Memory.index()] += u64::from(taken.qos0_count()),
        }
    }
}
