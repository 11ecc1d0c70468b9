//! Questions of the engine about clients, and the answers of their methods: at once, or later.

use engine::{ConnectionId, Engine, Event};
use tracing::debug;
use wire::ReasonCode;

use super::{Endpoint, Host};
use crate::auth::{Answer, Asked, Late, Question, Step, UserChanges};

/// The name of bans among the methods of authentication.
const BANS: &str = "bans";

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
        if self.is_banned(&question) {
            return Some(Answer::Failed(ReasonCode::Banned, BANS));
        }
        if self.permits.judges_bans_only(listener) && matches!(question.step, Step::Basic { .. }) {
            return Some(Answer::anonymous());
        }
        debug!(?asked, listener = %question.listener, peer = ?question.peer, step = ?question.step, "to be judged");
        self.authenticator.judge(asked, question)
    }

    /// Whether the client of a CONNECT is banned by its name or its identifier.
    fn is_banned(&self, question: &Question) -> bool {
        let (user, client_id) = match &question.step {
            Step::Basic { client_id, username, .. } => (username.as_deref(), Some(client_id.as_str())),
            // Later steps, and those of an open connection, are of a client that was not banned.
            Step::Exchange { client_id, username, begins, .. } => {
                if !begins || client_id.is_none() {
                    return false;
                }
                (username.as_deref(), client_id.as_deref())
            }
        };
        let address = self.permits.concerned(question.listener, question.peer);
        address.is_some_and(|address| self.permits.bans().has_client(address, user, client_id))
    }

    /// Notes the method of an answer that is passed on next.
    pub(super) fn note_verdict(&self, connection: ConnectionId, answer: &Answer) {
        self.verdicts.borrow_mut().extend(answer.method().map(|method| (connection, method)));
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
