//! The notices of the engine, completed by what the host knows, for the log of connections.

use std::io;
use std::net::SocketAddr;

use engine::{Actions, Cause, ConnectionId, Notice, Refused};
use wire::ReasonCode;

use super::{Endpoint, Host};
use crate::net::listen::ListenerNumber;
use crate::observe::connection_log::{Connected, Ended, Place};

impl<T: Endpoint> Host<T> {
    /// Logs the clients that came and the connections that ended in this step.
    pub(super) fn log_notices(&self, actions: &mut Actions) {
        for notice in actions.drain_notices() {
            self.log_notice(&notice);
        }
        self.verdicts.borrow_mut().clear();
    }

    fn log_notice(&self, notice: &Notice) {
        let now_ms = self.clock.now().as_ms();
        let mut log = self.log.borrow_mut();
        match notice {
            Notice::Connected {
                connection,
                client_id,
                user,
                version,
                keep_alive_s,
                clean_start,
                resumed,
            } => {
                let connected = Connected {
                    client_id,
                    user: user.as_deref(),
                    method: self.method_of(*connection),
                    version: *version,
                    keep_alive_s: *keep_alive_s,
                    clean_start: *clean_start,
                    resumed: *resumed,
                };
                let place = self.place(*connection);
                log.connected(now_ms, place, &connected);
                if let Some(address) = self.permits.concerned(place.listener, place.peer) {
                    self.permits.bans().count_connection(address, user.as_deref(), client_id, now_ms);
                }
            }
            Notice::Ended { connection, client_id, user, was_let_in, cause, packets_received } => {
                let peers = self.peers.borrow();
                let of_exchange = self.refused_user_of(*connection);
                let user = of_exchange.as_deref().or(user.as_deref());
                let taken_over_by = match cause {
                    Cause::TakenOver(by) => peers.address(by.slot()),
                    _ => None,
                };
                let ended = Ended {
                    client_id: client_id.as_deref(),
                    user,
                    method: self.method_of(*connection),
                    was_let_in: *was_let_in,
                    cause: *cause,
                    taken_over_by,
                    packets: *packets_received,
                    age_ms: peers.age_ms(connection.slot(), now_ms),
                };
                let place = self.place(*connection);
                log.ended(now_ms, place, &ended);
                if !was_let_in
                    && is_failure(*cause)
                    && let Some(address) = self.permits.concerned(place.listener, place.peer)
                {
                    self.permits.bans().count_failure(address, user, now_ms);
                }
            }
        }
    }

    /// A connection was closed at once, because not even a refusal had a permit.
    pub(in crate::backend) fn turn_away(
        &self,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
        refused: Refused,
    ) {
        self.log.borrow_mut().turned_away(self.clock.now().as_ms(), Place { peer, listener }, refused);
    }

    /// TLS has failed with the peer of a connection.
    pub(in crate::backend) fn log_tls_failure(&self, connection: ConnectionId, fault: &io::Error) {
        let place = self.place(connection);
        self.log.borrow_mut().tls_failed(self.clock.now().as_ms(), place, fault);
    }

    /// Logs how many lines were held back.
    pub(super) fn tell_suppressed(&self) {
        self.log.borrow_mut().tell_suppressed(self.clock.now().as_ms());
    }

    /// Logs that messages are dropped, where a line about it is due.
    pub(super) fn log_drops(&self) {
        let mut engine = self.engine.borrow_mut();
        let dropped = engine.counters().dropped;
        let now_ms = self.clock.now().as_ms();
        self.drop_log.borrow_mut().observe(now_ms, self.number, &dropped, || engine.take_worst_client());
    }

    /// The method whose verdict was passed on in this step.
    fn method_of(&self, connection: ConnectionId) -> Option<&'static str> {
        let verdicts = self.verdicts.borrow();
        verdicts.iter().rev().find(|noted| noted.connection == connection).map(|noted| noted.method)
    }

    /// The user whom the exchange of a connection named that was refused in this step.
    fn refused_user_of(&self, connection: ConnectionId) -> Option<Box<str>> {
        let verdicts = self.verdicts.borrow();
        verdicts.iter().rev().find(|noted| noted.connection == connection)?.refused.clone()
    }

    /// The listener is unknown only if the connection has moved away in this step.
    fn place(&self, connection: ConnectionId) -> Place {
        let listener = self.socket(connection).map_or_else(ListenerNumber::default, |socket| socket.listener);
        Place { peer: self.peers.borrow().address(connection.slot()), listener }
    }
}

/// Whether a client was refused for what it says it is.
fn is_failure(cause: Cause) -> bool {
    let reasons = [ReasonCode::BadUserNameOrPassword, ReasonCode::NotAuthorized];
    matches!(cause, Cause::AuthenticationFailed(reason) if reasons.contains(&reason))
}
