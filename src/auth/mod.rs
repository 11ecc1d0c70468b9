//! The judgement of clients: methods that are asked about each step of a client, and the way of their answers to its shard.
//!
//! A method that needs little time answers at once. One that needs more keeps [`Asked`] and answers later, from any thread, through
//! [`Answers`]. Today there is only the method of tests, which exercises the exchange and proves no identity. The password file is
//! edited by `mqtt-broker user`; no listener asks it yet.

mod answers;
pub(crate) mod password;
mod question;
mod test_method;

use wire::ReasonCode;

use crate::backend::Doorbells;

use answers::{Answers, LateAnswers};
pub(crate) use question::{Answer, Asked, Question, Step};
pub(crate) use test_method::TEST_METHOD;

/// Judges the steps of clients. **Lives on:** every shard, one on each.
pub(crate) struct Authenticator {
    answers: Answers,
    late: LateAnswers,
}

impl Authenticator {
    /// One for each shard, in their order.
    pub(crate) fn for_shards(shard_count: u16, doorbells: Doorbells) -> Vec<Self> {
        let (answers, receivers) = Answers::new(shard_count, doorbells);
        receivers.into_iter().map(|late| Self { answers: answers.clone(), late }).collect()
    }

    /// The answers of this shard that come later.
    pub(crate) fn late_answers(&self) -> &LateAnswers {
        &self.late
    }

    /// Judges a step: the answer, or `None` if it comes later through [`Answers`].
    pub(crate) fn judge(&self, asked: Asked, question: &Question) -> Option<Answer> {
        match &question.step {
            Step::Exchange { method, data, begins, .. } if method == TEST_METHOD => {
                let challenge = format!("{}-{}", asked.connection.slot(), asked.connection.generation());
                let answer = test_method::echo(challenge, data, *begins);
                if *begins {
                    return Some(answer);
                }
                // Late, as the answer of a slow method is.
                self.answers.send(asked, answer);
                None
            }
            Step::Exchange { .. } => Some(Answer::Failed(ReasonCode::BadAuthenticationMethod)),
            // No method is asked about a CONNECT alone, so nobody can be known.
            Step::Basic { .. } => Some(Answer::Failed(ReasonCode::NotAuthorized)),
        }
    }
}
