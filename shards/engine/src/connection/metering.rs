//! The connections whose clients may not publish as fast as they can: each PUBLISH of them is asked for at the meter.
//!
//! Invariants: a packet is charged once, however it is cut; a connection whose meter has a timer is paused, and one that is paused is
//! never judged to be silent.

use wire::PacketType;

use super::debts::Debtor;
use super::meter::{Meter, Metered};
use super::{Connection, Connections, Phase};
use crate::action::Action;
use crate::base::ids::ConnectionId;
use crate::limits::{Limits, OnRate};
use crate::timer::Timer;
use crate::turn::Turn;

/// The hash of a payer is below one of these, so that no user is taken for an address.
const PAYING_USER: u32 = 0;
const PAYING_ADDRESS: u32 = 1;

impl Connections {
    /// Keeps the address of a client that has not sent its CONNECT, if its listener has a limit.
    pub(crate) fn set_address(&mut self, limits: &Limits, id: ConnectionId, address: u64) {
        let listener =
            self.get(id).filter(|it| matches!(it.phase, Phase::Fresh(_))).map(Connection::listener);
        if listener.is_some_and(|listener| limits.rates(listener).is_some()) {
            self.meters.set_address(id.slot(), address);
        }
    }

    /// Begins to meter the connection of a client, if its listener has a limit. The user is empty for a client without one.
    pub(crate) fn begin_metering(
        &mut self,
        turn: &Turn<'_>,
        id: ConnectionId,
        (client_id, user): (&str, &str),
    ) {
        let address = self.meters.take_address(id.slot());
        let Some(rates) = turn.limits.rates(self.current(id).listener()) else { return };
        let by_address = address.map(|address| self.hasher.pair(PAYING_ADDRESS, address));
        let by_user = (!user.is_empty()).then(|| self.hasher.below(PAYING_USER, user.as_bytes()));
        let client = self.hasher.bytes(client_id.as_bytes());
        let debtor = Debtor::new(client, by_user.or(by_address));
        let left = self.meters.debts().take(debtor);
        let before = self.meters.insert(id.slot(), Meter::new(rates, turn.now, debtor, left));
        assert!(before.is_none());
        self.current(id).barriers.set_metered(true);
    }

    /// Asks the meter of a connection about the packet that arrives, and charges a PUBLISH once its length is known. `begins` if
    /// nothing of the packet was taken before.
    #[cold]
    pub(crate) fn meter(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        begins: bool,
        packet_bytes: Option<u32>,
    ) -> Metered {
        let (connection, meter) = (self.slab.get_mut(id.key()), self.meters.get_mut(id.slot()));
        assert!(connection.is_some() && meter.is_some());
        let (Some(connection), Some(meter)) = (connection, meter) else { return Metered::Go };
        assert!(connection.barriers.is_metered());
        let is_publish = connection.arriving == Some(PacketType::Publish);
        if !is_publish || meter.has_charged(connection.packets_received) {
            return Metered::Go;
        }
        let wait_ms = meter.wait_ms(turn.now);
        if begins && wait_ms > 0 {
            // One that is closed instead is resumed as it closes, so that the rest comes once more.
            connection.paused = true;
            if meter.on_rate() == OnRate::Disconnect {
                return Metered::Exceeded;
            }
            if !meter.is_paused() {
                turn.counters.rate_pauses += 1;
                let due = meter.begin_pause(turn.now, wait_ms);
                meter.set_timer(turn.timers.insert(due, Timer::Rate(id)));
            }
            return Metered::Wait;
        }
        if let Some(packet_bytes) = packet_bytes {
            meter.charge(connection.packets_received, packet_bytes);
        }
        Metered::Go
    }

    /// The time of a pause is over, or it is time to look whether the peer has left meanwhile: bytes that it sent before wait in its
    /// socket, so its end is not received.
    pub(crate) fn on_rate_timer(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        let meter = self.meters.get_mut(id.slot());
        assert!(meter.is_some());
        let Some(meter) = meter else { return };
        let (due, looks) = meter.on_timer(turn.now);
        if looks {
            turn.actions.push(Action::Peek(id));
        }
        match due {
            Some(due) => meter.set_timer(turn.timers.insert(due, Timer::Rate(id))),
            None => self.current(id).resume(turn.now, id, turn.actions),
        }
    }

    /// The peer of a connection has left. If its rate pauses it, the pause ends, and what it sent is taken: charged, so that it has
    /// to be paid for after the next CONNECT, and in order, so that a DISCONNECT counts. A client that owes more than a minute is closed
    /// instead, or leaving would be a way past the rate. Others are found out by their receive.
    pub(crate) fn on_hung_up(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        if self.get(id).is_none_or(|connection| !connection.barriers.is_metered()) {
            return;
        }
        let Some(meter) = self.meters.get_mut(id.slot()) else { return };
        meter.end_waiting();
        if let Some(timer) = meter.end_pause() {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
            self.current(id).resume(turn.now, id, turn.actions);
        }
    }

    /// Forgets the address of a client that goes on elsewhere, or nowhere.
    pub(super) fn forget_address(&mut self, id: ConnectionId) {
        let _address = self.meters.take_address(id.slot());
    }

    /// A connection begins to close: nothing of it is metered any more.
    pub(super) fn forget_meter(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        let Some(connection) = self.get_mut(id).filter(|connection| connection.barriers.is_metered()) else {
            return;
        };
        connection.barriers.set_metered(false);
        let meter = self.meters.remove(id.slot());
        assert!(meter.is_some());
        let Some(mut meter) = meter else { return };
        if let Some((debtor, debt)) = meter.left(turn.now) {
            self.meters.debts().keep(debtor, debt);
        }
        if let Some(timer) = meter.end_pause() {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
    }

    /// Checks that each meter belongs to a connection, and each pause to one that is not read: for an audit.
    ///
    /// # Panics
    /// If one does not.
    pub(super) fn check_meters(&self) {
        let metered = self.iter().filter(|(_, connection)| connection.barriers.is_metered()).count();
        assert!(metered == self.meters.count() && metered == self.meters.iter().count());
        for (slot, meter) in self.meters.iter() {
            let connection = self.id_at(slot).and_then(|id| self.get(id));
            assert!(connection.is_some_and(|connection| connection.barriers.is_metered()));
            assert!(!meter.is_paused() || connection.is_some_and(|connection| connection.paused));
            meter.check();
        }
        for slot in self.meters.addressed_slots() {
            let connection = self.id_at(slot).and_then(|id| self.get(id));
            assert!(connection.is_some_and(|it| it.session().is_none() && !it.barriers.is_metered()));
        }
        self.meters.check_debts();
    }
}
