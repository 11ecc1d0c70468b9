//! Questions of the engine about clients, and the answers of their methods: at once, or later.

use engine::{AuthenticationStep, ConnectionId, Engine, Event};
use tracing::debug;
use wire::ReasonCode;

use super::{Endpoint, Host};
use crate::auth::{Answer, Asked, Late, Question, Step, UserChanges};
use crate::process::clock;

/// The name of bans among the methods of authentication.
const BANS: &str = "bans";

/// A verdict that was passed on in this step, for the log.
pub(super) struct Noted {
    pub(super) connection: ConnectionId,
    /// The method that gave it.
    pub(super) method: &'static str,
    /// The user who is refused, where an exchange names it and not CONNECT.
    pub(super) refused: Option<Box<str>>,
}

impl<T: Endpoint> Host<T> {
    /// Has a step judged. `None` if its answer comes later, or if it is over already.
    pub(super) fn judge(&self, engine: &Engine, connection: ConnectionId, step: u64) -> Option<Answer> {
        let owned = Step::of(&engine.authentication_step(connection, step)?);
        let socket = self.socket(connection)?;
        let listener = socket.listener;
        let peer = self.peers.borrow().address(connection.slot());
        let asked = Asked { shard: self.number, connection, step, began: clock::read() };
        let certificate_user = self.certificate_of(&socket).and_then(|certificate| certificate.username);
        let question = Question { listener, peer, certificate_user, step: owned };
        if let Some(refusal) = self.ban_of(&question) {
            return Some(refusal);
        }
        if self.permits.judges_bans_only(listener) && matches!(question.step, Step::Basic { .. }) {
            return Some(self.unless_flapping(engine, asked, Answer::anonymous()));
        }
        debug!(?asked, listener = %question.listener, peer = ?question.peer, step = ?question.step, "to be judged");
        let answer = self.authenticator.judge(asked, question)?;
        self.take_verdict_time(asked.began);
        Some(self.unless_flapping(engine, asked, answer))
    }

    /// The refusal of the client of a CONNECT that is banned by its name there or in its exchange.
    fn ban_of(&self, question: &Question) -> Option<Answer> {
        let user = match &question.step {
            // Later steps, and those of an open connection, are of a client that was not banned.
            Step::Exchange { client_id, begins, .. } if !begins || client_id.is_none() => return None,
            Step::Basic { username, .. } | Step::Exchange { username, .. } => username.as_deref(),
        };
        let address = self.permits.concerned(question.listener, question.peer)?;
        let of_exchange = question.step.user_of_exchange();
        let mut users = user.into_iter().chain(of_exchange.as_deref());
        let is_banned = users.any(|user| self.permits.bans().has_user(address, user));
        is_banned.then(|| Answer::failed_as(of_exchange, ReasonCode::Banned, BANS))
    }

    /// The answer, or a refusal if the identifier of a client that it lets in is banned for its user. Only the answer says which
    /// user that is, so nobody is banned by a name that somebody else sends.
    fn unless_flapping(&self, engine: &Engine, asked: Asked, answer: Answer) -> Answer {
        let Answer::Success { grant, .. } = &answer else { return answer };
        let Asked { connection, step, .. } = asked;
        let client_id = match engine.authentication_step(connection, step) {
            Some(
                AuthenticationStep::Basic { client_id, .. }
                | AuthenticationStep::Exchange { client_id: Some(client_id), .. },
            ) => client_id,
            // An open connection stays.
            Some(AuthenticationStep::Exchange { client_id: None, .. }) | None => return answer,
        };
        let Some(socket) = self.socket(connection) else { return answer };
        let peer = self.peers.borrow().address(connection.slot());
        let Some(address) = self.permits.concerned(socket.listener, peer) else { return answer };
        if self.permits.bans().has_client(address, grant.user.as_deref(), client_id) {
            return Answer::failed_as(None, ReasonCode::Banned, BANS);
        }
        answer
    }

    /// Notes the method of an answer that is passed on next, and the user whom it refuses.
    pub(super) fn note_verdict(&self, connection: ConnectionId, answer: &Answer) {
        let verdict = |method| Noted { connection, method, refused: answer.refused_user().map(Box::from) };
        self.verdicts.borrow_mut().extend(answer.method().map(verdict));
    }

    /// Whether no late answer has come, and no news of the disk.
    pub(in crate::backend) fn has_no_answers(&self) -> bool {
        self.authenticator.late_answers().is_empty() && self.has_no_news_of_disk()
    }

    /// Passes the late answers on that have come.
    pub(in crate::backend) fn take_answers(&self) {
        for late in self.authenticator.late_answers().take() {
            match late {
                Late::Answer(asked, answer) => {
                    let Asked { connection, step, .. } = asked;
                    self.take_verdict_time(asked.began);
                    let answer = self.unless_flapping(&self.engine.borrow(), asked, answer);
                    self.note_verdict(connection, &answer);
                    answer.pass(self.clock.now(), |verdict| {
                        let _nothing = self.step(Event::Authenticated { connection, step, verdict });
                    });
                }
                Late::Users(changes) => {
                    self.authenticator.forget_exchanges();
                    let UserChanges { gone, renewed } = &*changes;
                    let _nothing = self.step(Event::Users { gone, renewed });
                }
            }
        }
    }
}
