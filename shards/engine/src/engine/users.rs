//! Changes of the users that lists recognise: their clients are closed, and the sessions of users that are gone end.
//!
//! Invariant: a change visits a bounded number of sessions a tick. A client that came after it was judged by the new list, and is left
//! alone.

use alloc::boxed::Box;

use super::Rooms;
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::time::Instant;
use crate::cause::Cause;
use crate::connection::{Close, Connection};
use crate::session::Session;
use crate::session::user_changes::UserChange;
use crate::turn::Turn;

/// Slots of sessions that a tick visits.
const SLOTS_PER_TICK: u32 = 64;

impl Rooms {
    /// Users have changed.
    pub(super) fn change_users(&mut self, turn: &Turn<'_>, gone: &[Box<str>], renewed: &[Box<str>]) {
        self.user_changes.add(turn.now, UserChange::Gone, gone);
        self.user_changes.add(turn.now, UserChange::Renewed, renewed);
    }

    /// Visits some more sessions.
    pub(super) fn go_on_with_users(&mut self, turn: &mut Turn<'_>) {
        let Some((from, since)) = self.user_changes.at() else { return };
        let slot_count = self.delivery.sessions.slot_count();
        let end = slot_count.min(from.saturating_add(SLOTS_PER_TICK));
        let mut at = from;
        while at < end && !turn.is_spent() {
            turn.spend(1);
            if let Some(id) = self.delivery.sessions.id_at(at) {
                self.visit_user_of(turn, id, since);
            }
            at += 1;
        }
        self.user_changes.go_on_at((at < slot_count).then_some(at));
    }

    fn visit_user_of(&mut self, turn: &mut Turn<'_>, id: SessionId, since: Instant) {
        let Some(session) = self.delivery.sessions.get(id).filter(|session| !session.has_ended()) else {
            return;
        };
        let change = session.listed_user().and_then(|user| self.user_changes.of(user));
        let Some(change) = change else { return };
        let connection = session.connection();
        let known = connection.and_then(|connection| self.delivery.connections.get(connection));
        if known.is_some_and(|known: &Connection| known.is_known_since(since, turn.now)) {
            return;
        }
        if let Some(connection) = connection {
            let cause = match change {
                UserChange::Gone => Cause::UserGone,
                UserChange::Renewed => Cause::UserRenewed,
            };
            self.close(turn, connection, &Close::Told(cause));
        }
        // It may have ended with its connection.
        if change == UserChange::Gone
            && self.delivery.sessions.get(id).is_some_and(|session: &Session| !session.has_ended())
        {
            self.end_session(turn, id);
        }
    }

    /// The certificate of a client is revoked. Its will is due, because the client sent no DISCONNECT [MQTT-3.1.2-8].
    pub(super) fn close_revoked(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        if self.delivery.connections.get(id).is_none() {
            turn.counters.stale += 1;
            return;
        }
        self.close(turn, id, &Close::Told(Cause::CertificateRevoked));
    }
}
