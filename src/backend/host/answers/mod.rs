//! The requests of operators: each is executed in a turn of the shard, and is bounded.

mod lists;
mod messages;

use engine::{Event, SessionSummary, UserGrant};
use tracing::info;

use super::{Endpoint, Host};
use crate::admin::operator::{Answer, Asked, ROWS_MAX, Request, SessionRow};
use crate::observe::connection_log::printable;
use crate::shard::gauges::JournalState;

/// Slots of sessions that are looked at for one answer.
const SLOTS_MAX: u32 = 256;

const _: () = assert!(SLOTS_MAX as usize <= ROWS_MAX);

impl<T: Endpoint> Host<T> {
    /// Executes the request of an operator.
    pub(in crate::backend) fn answer(&self, asked: &Asked) {
        let answer = match &asked.request {
            Request::Health {} => match self.gauges.journal() {
                JournalState::None | JournalState::Serving => Answer::Healthy,
                JournalState::Degraded => Answer::JournalDegraded,
                JournalState::Failed => Answer::JournalFailed,
            },
            Request::Disconnect { client_id } => self.disconnect(client_id),
            Request::EndSession { client_id } => {
                self.change_session(client_id, "ended", Event::EndSession { client_id })
            }
            Request::GiveSession { client_id, user } => {
                let grant = UserGrant { user: Some(user), ..UserGrant::NOBODY };
                self.change_session(client_id, "given away", Event::GiveSession { client_id, grant: &grant })
            }
            Request::Session { client_id } => {
                let engine = self.engine.borrow();
                engine.session_of(client_id).map_or(Answer::NoSession, |session| Answer::Sessions {
                    rows: vec![self.row(&session)],
                    next: None,
                })
            }
            Request::Sessions { from, .. } => self.sessions(*from),
            Request::Log(action) => Answer::Logs(self.act_on_log(*action).into_iter().collect()),
            Request::Clients { from, only, .. } => self.clients(*from, only),
            Request::Client { client_id } => self.client(client_id),
            Request::Subscriptions { from, .. } => self.subscriptions(*from),
            Request::SubscriptionsOf { client_id, from } => self.subscriptions_of(client_id, *from),
            Request::Receivers { topic, from, .. } => self.receivers(topic, *from),
            Request::Retained { filter, after, .. } => self.retained(filter, after.as_deref()),
            Request::RetainedMessage { topic } => self.retained_message(topic),
            Request::ClearRetained { topic } => self.clear_retained(topic),
            Request::Publish { topic, payload, qos, retain } => {
                self.publish_of_operator((topic, payload), *qos, *retain)
            }
            Request::Closed { before, client_id, .. } => self.closed(*before, client_id.as_deref()),
            Request::Trace { target, payload_bytes_max, from, .. } => {
                self.trace(target, *payload_bytes_max, *from)
            }
            Request::Refusals {} => Answer::Refusals(self.log.borrow().refusals()),
            Request::Statistics {}
            | Request::Shards {}
            | Request::Configuration { .. }
            | Request::Certificates {}
            | Request::LastLines { .. }
            | Request::LogLevel { .. }
            | Request::Reload { .. }
            | Request::RollBack {}
            | Request::Drain(_)
            | Request::DrainState {}
            | Request::CancelDrain {}
            | Request::Bans { .. }
            | Request::Ban(_)
            | Request::LiftBans(_) => Answer::NotUnderstood,
        };
        // The operator may have stopped waiting.
        let _ = asked.answer.try_send(answer);
    }

    fn disconnect(&self, client_id: &str) -> Answer {
        let connection = self.engine.borrow().connection_of(client_id);
        let Some(connection) = connection else { return Answer::NotConnected };
        // This identifier comes from the operator, so it is logged whole.
        info!(
            shard = self.number,
            connection = connection.slot(),
            ?client_id,
            "disconnected by the operator"
        );
        let _nothing = self.step(Event::Disconnect { connection });
        Answer::Disconnected
    }

    fn change_session(&self, client_id: &str, change: &str, event: Event<'_>) -> Answer {
        if self.engine.borrow().session_of(client_id).is_none() {
            return Answer::NoSession;
        }
        info!(shard = self.number, ?client_id, change, "session changed by the operator");
        let _nothing = self.step(event);
        Answer::Done
    }

    fn sessions(&self, from: u32) -> Answer {
        let mut rows = Vec::new();
        let engine = self.engine.borrow();
        let next = engine.visit_sessions(from, from.saturating_add(SLOTS_MAX), &mut |session| {
            rows.push(self.row(&session));
            true
        });
        Answer::Sessions { rows, next: self.place_of(next) }
    }

    /// The place where a list over all shards goes on: here, or at the beginning of the next shard; `None` at the end.
    fn place_of<P: Default>(&self, next: Option<P>) -> Option<(u16, P)> {
        let another = self.number + 1;
        match next {
            Some(place) => Some((self.number, place)),
            None => (another < self.lanes.shard_count()).then(|| (another, P::default())),
        }
    }

    fn row(&self, session: &SessionSummary<'_>) -> SessionRow {
        let peer = session.connection.and_then(|id| self.peers.borrow().address(id.slot()));
        SessionRow {
            client: printable(session.client_id),
            user: printable(session.user),
            connected: session.connection.is_some(),
            peer: peer.map(|peer| peer.to_string()),
            subscriptions: session.subscription_count,
            queued: session.queued_count,
        }
    }
}
