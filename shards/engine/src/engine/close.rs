//! The end of connections and sessions: everything that outlives them is passed on.

use wire::ReasonCode;
use wire::packet::Disconnect;

use super::Rooms;
use crate::base::ids::{ConnectionId, SessionId};
use crate::cause::Cause;
use crate::connection::{Close, Phase};
use crate::counters::DropReason;
use crate::event::ClosedBy;
use crate::session::table::Detached;
use crate::turn::{Ending, Turn};

/// Work of closing a connection, apart from the end of its session.
const CLOSE_WORK: u32 = 2;
/// Work of the end of a session, apart from its subscriptions and messages.
const SESSION_WORK: u32 = 4;
/// Messages in flight that are put into order for one unit of work.
const INFLIGHT_PER_WORK: u32 = 8;
/// Work of a subscription that is added or removed.
pub(super) const SUBSCRIPTION_WORK: u32 = 4;

/// Work of telling other shards about a group.
const GROUP_WORK: u32 = 4;

impl Rooms {
    /// DISCONNECT of the client. Returns how its connection is closed.
    pub(super) fn on_disconnect(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        disconnect: &Disconnect<'_>,
    ) -> Close {
        if let Some(interval_s) = disconnect.properties.session_expiry_interval_s {
            let interval_s_max = turn.limits.session_expiry_s_max;
            if !self.delivery.sessions.change_expiry(session, interval_s, interval_s_max) {
                return Close::Told(Cause::ExpiryRaised);
            }
            self.record_session(turn, session);
        }
        let sessions = &mut self.delivery.sessions;
        // A normal end deletes the will [MQTT-3.14.4-3]; 0x04 and every other reason leaves it due.
        let mut cause = Cause::DisconnectedWithWill(disconnect.reason);
        if disconnect.reason == ReasonCode::Success {
            if let Some(will) = sessions.take_will(session) {
                assert!(will.timer().is_none());
                will.record_end(turn);
            }
            cause = Cause::Disconnected;
        }
        self.delivery.connections.current(id).set_disconnected();
        Close::Silently(cause)
    }

    /// The host stops: all connections are closed, some in each step. Until then no packets are taken of them.
    pub(super) fn stop(&mut self, turn: &mut Turn<'_>) {
        self.quiet = true;
        self.refuses = Some(Cause::Stopping);
        self.stop_at = Some(0);
        self.go_on_with_stop(turn);
    }

    pub(super) fn go_on_with_stop(&mut self, turn: &mut Turn<'_>) {
        let Some(mut at) = self.stop_at else { return };
        let close = Close::Told(Cause::Stopping);
        while at < self.delivery.connections.slot_count() {
            if turn.is_spent() {
                self.stop_at = Some(at);
                return;
            }
            if let Some(id) = self.delivery.connections.id_at(at) {
                turn.spend(CLOSE_WORK);
                self.close(turn, id, &close);
                self.settle(turn);
            }
            at += 1;
        }
        assert!(self.delivery.sessions.attached_count() == 0);
        self.stop_at = None;
        self.quiet = false;
    }

    /// The operator closes a connection. Its will is due, because the client sent no DISCONNECT [MQTT-3.1.2-8].
    pub(super) fn close_by_operator(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        let Some(connection) = self.delivery.connections.get(id) else {
            turn.counters.stale += 1;
            return;
        };
        if connection.phase() != Phase::Closing {
            turn.counters.closed_by_operator += 1;
        }
        self.close(turn, id, &Close::Told(Cause::Operator));
    }

    /// Clients are refused from now on, or let in again unless the shard stops.
    pub(super) fn drain(&mut self, is_on: bool) {
        if self.refuses != Some(Cause::Stopping) {
            self.refuses = is_on.then_some(Cause::Drained);
        }
    }

    /// A client is to connect elsewhere. Its will is due, because it sent no DISCONNECT [MQTT-3.1.2-8].
    pub(super) fn send_away(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        // It would be let in again at once.
        assert!(self.refuses.is_some());
        if self.delivery.connections.get(id).is_none() {
            turn.counters.stale += 1;
            return;
        }
        self.close(turn, id, &Close::Told(Cause::Drained));
    }

    /// Ends a connection: its peer is sent the reason if it can be, its session is let go at once, and the host closes
    /// it once everything is sent. A second call changes nothing.
    pub(super) fn close(&mut self, turn: &mut Turn<'_>, id: ConnectionId, close: &Close) {
        let connections = &mut self.delivery.connections;
        let Some(connection) = connections.get(id) else { return };
        let (phase, version) = (connection.phase(), connection.version());
        match *close {
            Close::Silently(_) | Close::Refused => {}
            Close::Wait(_) => unreachable!("the packet is put back"),
            // CONNACK before the connection is open [MQTT-4.12.0-4], DISCONNECT afterwards [MQTT-4.12.1-2]. The session
            // of the client, if it had one before, is untouched by the first.
            Close::Authentication(cause) if matches!(phase, Phase::Authenticating | Phase::Judging) => {
                connections.refuse_connect(turn, id, version, cause);
            }
            Close::Told(cause) | Close::Authentication(cause) => {
                connections.write_disconnect(turn, id, cause);
            }
        }
        if phase != Phase::Closing {
            if let Close::Silently(cause) | Close::Told(cause) | Close::Authentication(cause) = *close {
                self.note_end(turn, id, cause);
            }
            self.detach(turn, id);
            self.delivery.connections.begin_closing(turn, id);
        }
    }

    /// The network connection is gone.
    pub(super) fn on_closed(&mut self, turn: &mut Turn<'_>, id: ConnectionId, by: ClosedBy) {
        if self.delivery.connections.get(id).is_some_and(|connection| connection.phase() != Phase::Closing) {
            let cause = match by {
                ClosedBy::Peer => Cause::PeerClosed,
                ClosedBy::Reset => Cause::PeerReset,
                ClosedBy::Silence => Cause::PeerUnreachable,
                ClosedBy::Host => Cause::HostFailed,
            };
            self.note_end(turn, id, cause);
        }
        self.detach(turn, id);
        let Some(removed) = self.delivery.connections.remove(turn, id) else {
            turn.counters.stale += 1;
            return;
        };
        let (owner, sent, lost) = removed;
        if let Some(session) = owner.and_then(|owner| self.delivery.sessions.get_mut(owner)) {
            session.count_delivered(turn.counters, sent);
            session.count_dropped(turn.counters, DropReason::ConnectionLost, lost);
        } else {
            turn.counters.delivered += u64::from(sent);
            turn.counters.dropped[DropReason::ConnectionLost.index()] += u64::from(lost);
        }
    }

    /// Carries out an ending that a fan-out found.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, ending: Ending) {
        match ending {
            Ending::Connection(id, cause) => self.close(turn, id, &Close::Told(cause)),
            Ending::Session(id, cause) => {
                let session = self.delivery.sessions.get(id).filter(|session| !session.has_ended());
                let Some(session) = session else { return };
                if let Some(connection) = session.connection() {
                    self.close(turn, connection, &Close::Told(cause));
                }
                self.end_session(turn, id);
            }
        }
    }

    /// A session came online or went offline: its groups here count anew at once, and other shards are told.
    pub(super) fn members_changed(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        let Some(session) = self.delivery.sessions.get(id) else { return };
        let was_untold = self.topics.is_untold(id.index());
        self.topics.members_changed(session.subscriptions());
        if self.topics.is_untold(id.index()) && !was_untold {
            self.tell_groups(turn, id);
        }
    }

    /// Tells other shards about the groups of a session, as far as the step's share of work goes.
    pub(super) fn tell_groups(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        if self.delivery.sessions.get(id).is_none() {
            return;
        }
        while !turn.is_spent() {
            let Some(is_group) = self.topics.tell_next(id.index()) else { return };
            turn.spend(if is_group { GROUP_WORK } else { 1 });
        }
        if self.topics.is_untold(id.index()) {
            self.backlog.push_untold(id);
        }
    }

    /// Parts a connection from its session: the session goes on offline, or ends.
    fn detach(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        let Some(session_id) = self.delivery.connections.leave_session(id) else { return };
        let detached = self.delivery.sessions.detach(turn, session_id, id);
        self.members_changed(turn, session_id);
        if detached != Detached::Ends {
            self.record_detached(turn, session_id, turn.now);
        }
        match detached {
            Detached::Ends => self.end_session(turn, session_id),
            Detached::WillDue => self.publish_will(turn, session_id),
            Detached::GoesOn => {}
        }
    }

    /// Ends a session: nobody finds it any more, its will is published, its messages and subscriptions are given up. A
    /// step may have no time for all of them: then the next ones go on.
    pub(super) fn end_session(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        let Some(session) = self.delivery.sessions.get(id).filter(|session| !session.has_ended()) else {
            return;
        };
        turn.spend(SESSION_WORK + u32::from(session.inflight_count()) / INFLIGHT_PER_WORK);
        self.record_ended(turn, id);
        self.mesh.publisher_ended(id.index());
        let mut will = self.delivery.sessions.begin_end(turn, id);
        if let Some(forbidden) = will.take_if(|will| !self.may_publish_will(turn, id, will)) {
            forbidden.record_end(turn);
        }
        // The session may be gone before its will is published.
        let user = will.as_ref().and_then(|_| self.delivery.sessions.hold_source(turn, id));
        // While a fan-out is under way, no subscription is removed.
        if self.backlog.has_fan_out() || !self.give_up(turn, id) {
            // Its groups count it no more, though it still is a member of some.
            self.members_changed(turn, id);
            self.backlog.push_end(id);
        }
        if let Some(will) = will {
            self.publish_message_of(turn, &will, user);
            self.delivery.sessions.users_mut().release(user);
        }
    }

    /// Gives up what a session holds that has ended, as far as the step's share of work goes: messages first, because their
    /// groups have to have their names. Returns whether the session is gone.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>, id: SessionId) -> bool {
        let Self { topics, delivery, shared, .. } = self;
        if turn.is_spent() || !shared.give_up_messages(turn, topics, delivery, id) {
            return false;
        }
        let session = delivery.sessions.of_connection(id);
        loop {
            if turn.is_spent() {
                return false;
            }
            if session.forget_replay(turn.held_mut()) {
                turn.spend(1);
            } else if topics.unsubscribe_one(session.subscriptions_mut()) {
                turn.spend(SUBSCRIPTION_WORK);
            } else {
                break;
            }
        }
        delivery.sessions.remove(id);
        true
    }
}
