//! The owners of sessions: who may have one, and what the operator does about it.

use super::Rooms;
use crate::base::ids::SessionId;
use crate::base::time::Instant;
use crate::cause::Cause;
use crate::connection::Close;
use crate::limits::SessionOwner;
use crate::message::user_name::UserName;
use crate::session::Session;
use crate::session::access::Access;
use crate::session::user::UserGrant;
use crate::turn::Turn;

impl Rooms {
    /// Whether a session belongs to another user, and the settings say that this matters.
    pub(super) fn is_of_another(&self, turn: &Turn<'_>, session: SessionId, user: UserName<'_>) -> bool {
        turn.limits.session_owner == SessionOwner::User && self.delivery.sessions.is_of_another(session, user)
    }

    /// The operator ends the session of a client identifier. Its will is due [MQTT-3.1.2-8].
    pub(super) fn end_session_of(&mut self, turn: &mut Turn<'_>, client_id: &str) {
        self.close_client(turn, client_id);
        // It may have ended with its connection.
        if let Some(session) = self.delivery.sessions.find(client_id) {
            self.end_session(turn, session);
        }
    }

    /// The operator gives the session of a client identifier to another user.
    pub(super) fn give_session(&mut self, turn: &mut Turn<'_>, client_id: &str, grant: &UserGrant<'_>) {
        self.close_client(turn, client_id);
        let sessions = &mut self.delivery.sessions;
        let Some(session) = sessions.find(client_id) else { return };
        sessions.set_user(session, grant.user_name());
        sessions.set_access(session, Access::of_user(grant.user, grant.is_listed));
        if let Some(will) = sessions.take_will(session) {
            will.give_up(turn);
        }
        let expiry = self.delivery.sessions.of_connection(session).expiry(&*turn.timers, turn.now);
        if self.record_session(turn, session) {
            // It has been without a connection as long as before.
            let since_ms = turn.now.as_ms().saturating_sub(u64::from(expiry.passed_s) * 1_000);
            self.record_detached(turn, session, Instant::from_ms(since_ms));
        }
    }

    /// Closes the connection of a client identifier, if it has one.
    fn close_client(&mut self, turn: &mut Turn<'_>, client_id: &str) {
        let sessions = &self.delivery.sessions;
        let session = sessions.find(client_id).and_then(|id| sessions.get(id));
        if let Some(connection) = session.and_then(Session::connection) {
            turn.counters.closed_by_operator += 1;
            self.close(turn, connection, &Close::Told(Cause::Operator));
        }
    }
}
