//! Clients that come and connections that end: counted by cause, and noted for the host if it wants to know; and the client
//! that loses the most messages.

use alloc::boxed::Box;

use wire::packet::Connect;

use super::{Engine, Rooms};
use crate::base::ids::{ConnectionId, SessionId};
use crate::cause::Cause;
use crate::connection::connect::keep_alive_s;
use crate::connection::{Connection, Phase};
use crate::drop_watch::WorstClient;
use crate::notice::{Notice, cut};
use crate::turn::Turn;

impl Engine {
    /// The client that lost the most messages since the last call, if any lost one.
    pub fn take_worst_client(&mut self) -> Option<WorstClient> {
        self.counters.drop_watch().take()
    }
}

impl Rooms {
    /// A client was let in.
    pub(super) fn note_connected(
        &self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        connect: &Connect<'_>,
        client_id: &str,
        resumed: bool,
    ) {
        assert!(self.delivery.connections.get(id).is_some_and(|known| known.session().is_some()));
        if turn.limits.connection_notices {
            turn.actions.notice(Notice::Connected {
                connection: id,
                client_id: cut(client_id),
                user: self.delivery.connections.get(id).and_then(|known| self.user_of(known.session()?)),
                version: connect.version,
                keep_alive_s: keep_alive_s(turn.limits, connect),
                clean_start: connect.clean_start,
                resumed,
            });
        }
    }

    /// The CONNECT of a client was refused.
    pub(super) fn note_refusal(
        &self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        connect: &Connect<'_>,
        cause: Cause,
    ) {
        let connection = self.delivery.connections.get(id);
        assert!(connection.is_some_and(|known| known.session().is_none()));
        count(turn, cause, false);
        if turn.limits.connection_notices {
            let packets_received = connection.map_or(0, Connection::packets_received);
            turn.actions.notice(Notice::Ended {
                connection: id,
                client_id: Some(cut(connect.client_id)),
                user: connect.user_name.map(cut),
                was_let_in: false,
                cause,
                packets_received,
            });
        }
    }

    /// A connection ends that has not been noted; its session still knows it.
    pub(super) fn note_end(&self, turn: &mut Turn<'_>, id: ConnectionId, cause: Cause) {
        let Some(connection) = self.delivery.connections.get(id) else { return };
        assert!(connection.phase() != Phase::Closing);
        let was_let_in = connection.session().is_some();
        count(turn, cause, was_let_in);
        if turn.limits.connection_notices {
            let (client_id, user) = self.client_of(id, connection);
            turn.actions.notice(Notice::Ended {
                connection: id,
                client_id,
                user,
                was_let_in,
                cause,
                packets_received: connection.packets_received(),
            });
        }
    }

    /// The identifier and the user of the client of a connection, as far as they are known.
    fn client_of(&self, id: ConnectionId, connection: &Connection) -> (Option<Box<str>>, Option<Box<str>>) {
        if let Some(id) = connection.session() {
            let session = self.delivery.sessions.get(id);
            return (session.map(|session| cut(session.client_id())), self.user_of(id));
        }
        let connect = self.delivery.connections.connect_under_way(id);
        let connect = connect.and_then(|connect| Connect::decode(connect).ok());
        connect.map_or((None, None), |connect| (Some(cut(connect.client_id)), connect.user_name.map(cut)))
    }

    /// The user of a session; `None` for nobody.
    fn user_of(&self, session: SessionId) -> Option<Box<str>> {
        let sessions = &self.delivery.sessions;
        let name = sessions.users().name_of(sessions.user_of(session)).name();
        (!name.is_empty()).then(|| cut(name))
    }
}

fn count(turn: &mut Turn<'_>, cause: Cause, was_let_in: bool) {
    let group = cause.group();
    assert!(if was_let_in { group.may_close() } else { group.may_refuse() });
    let totals = if was_let_in { &mut turn.counters.closed } else { &mut turn.counters.refused };
    totals[group.index()] += 1;
    turn.counters.ended += 1;
    turn.counters.protocol_errors += u64::from(cause.is_protocol_error());
}
