//! Questions of the engine about clients, and the answers of their methods: at once, or later.

use engine::{ConnectionId, Engine, Event};
use tracing::debug;
use wire::ReasonCode;

use super::{Endpoint, Host};
use crate::auth::{Answer, Asked, Late, Question, Step, UserChanges};

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
        let asked = Asked { shard: self.number, connection, step };
        let certificate_user = self.certificate_of(&socket).and_then(|certificate| certificate.username);
        let question = Question { listener, peer, certificate_user, step: owned };
        if let Some(refusal) = self.ban_of(&question) {
            return Some(refusal);
        }
        if self.permits.judges_bans_only(listener) && matches!(question.step, Step::Basic { .. }) {
            return Some(Answer::anonymous());
        }
        debug!(?asked, listener = %question.listener, peer = ?question.peer, step = ?question.step, "to be judged");
        self.authenticator.judge(asked, question)
    }

    /// The refusal of the client of a CONNECT that is banned by its identifier, or by its name there or in its exchange.
    fn ban_of(&self, question: &Question) -> Option<Answer> {
        let (user, client_id) = match &question.step {
            Step::Basic { client_id, username, .. } => (username.as_deref(), Some(client_id.as_str())),
            // Later steps, and those of an open connection, are of a client that was not banned.
            Step::Exchange { client_id, username, begins, .. } => {
                if !begins || client_id.is_none() {
                    return None;
                }
                (username.as_deref(), client_id.as_deref())
            }
        };
        let address = self.permits.concerned(question.listener, question.peer)?;
        let bans = self.permits.bans();
        let of_exchange = question.step.user_of_exchange();
        let is_banned = bans.has_client(address, user, client_id)
            || bans.has_client(address, of_exchange.as_deref(), None);
        is_banned.then(|| Answer::failed_as(of_exchange, ReasonCode::Banned, BANS))
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
                Late::Answer(Asked { connection, step, .. }, answer) => {
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
