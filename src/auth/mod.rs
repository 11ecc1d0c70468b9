//! The judgement of clients: methods that are asked about each step of a client, and the way of their answers to its shard.
//!
//! A method that needs little time answers at once, on the shard. One that needs more owns the question and answers later, from its
//! own thread, through [`Answers`].

mod answers;
mod exchanges;
mod fetch;
mod hook;
mod jwt;
mod methods;
mod names;
mod operators;
pub(crate) mod password;
mod pool;
mod question;
mod roll;
mod scram;
mod shared;
mod side;
mod snapshot;
mod start;
mod test_method;

use std::cell::RefCell;

use tracing::debug;
use wire::ReasonCode;
use zeroize::Zeroizing;

use answers::{Answers, LateAnswers};
pub(crate) use answers::{Late, UserChanges};
use exchanges::Exchanges;
pub(crate) use jwt::JWT_METHOD;
use methods::{Case, Identity, Methods};
#[cfg(all(feature = "admin", unix))]
pub(crate) use operators::OperatorToken;
#[cfg(feature = "admin")]
pub(crate) use operators::token_hash;
pub(crate) use operators::{OPERATORS_ROLE, Operators};
use question::NO_METHOD;
pub(crate) use question::{Answer, Asked, Question, Step};
pub(crate) use scram::SCRAM_METHOD;
use scram::{ClientFirst, NONCE_BYTES};
use shared::Shared;
pub(crate) use side::Side;
pub(crate) use start::{check, start};
pub(crate) use test_method::TEST_METHOD;

use crate::config::ListenerConfig;
use crate::config::auth::AuthMethod;
use crate::net::listen::ListenerNumber;

/// Judges the steps of clients. **Lives on:** every shard, one on each.
pub(crate) struct Authenticator {
    answers: Answers,
    late: LateAnswers,
    /// `None` if no listener asks a method.
    methods: Option<Shared<Methods>>,
    /// The exchanges of SCRAM that wait for clients of this shard.
    exchanges: RefCell<Exchanges>,
    /// The number of the listener of operators' own clients, if there is one, and their tokens.
    operators: (Option<usize>, Operators),
}

/// A handle on the methods of listeners. **Lives on:** the control plane.
pub(crate) struct NewListeners(Option<Shared<Methods>>);

impl NewListeners {
    /// A listener has a new number. Without methods, its clients are judged as before: nobody is known.
    pub(crate) fn add(&self, number: u16, config: &ListenerConfig) {
        if let Some(methods) = &self.0 {
            methods.add_listener(number, config);
        }
    }
}

/// A step of enhanced authentication.
struct ExchangeStep {
    data: Zeroizing<Vec<u8>>,
    begins: bool,
    /// Whether the connection is open: it authenticates again.
    is_open: bool,
    username: Option<String>,
}

impl Authenticator {
    /// The answers of this shard that come later.
    pub(crate) fn late_answers(&self) -> &LateAnswers {
        &self.late
    }

    /// Users have changed: exchanges that began before are judged by nothing any more.
    pub(crate) fn forget_exchanges(&self) {
        self.exchanges.take();
    }

    /// The way to the side thread, if there is one.
    pub(crate) fn side(&self) -> Option<Side> {
        self.methods.as_ref().map(|methods| methods.side.clone())
    }

    /// The methods of listeners, to which those of new numbers are added.
    pub(crate) fn listener_methods(&self) -> NewListeners {
        NewListeners(self.methods.clone())
    }

    /// Judges a step: the answer, or `None` if it comes later through [`Answers`].
    pub(crate) fn judge(&self, asked: Asked, question: Question) -> Option<Answer> {
        let Question { listener, peer, certificate_user, step } = question;
        let (of_operators, operators) = &self.operators;
        if *of_operators == Some(listener.index()) {
            return Some(operators.judge(&step));
        }
        match (step, &self.methods) {
            (Step::Exchange { method, data, begins, .. }, _) if method == TEST_METHOD => {
                let challenge = format!("{}-{}", asked.connection.slot(), asked.connection.generation());
                let answer = test_method::echo(challenge, &data, begins);
                if begins {
                    return Some(answer);
                }
                // Late, as the answer of a slow method is.
                self.answers.send(asked, answer);
                None
            }
            (Step::Exchange { method, data, begins, client_id, username }, Some(methods)) => {
                let step = ExchangeStep { data, begins, is_open: client_id.is_none(), username };
                Some(self.judge_exchange(methods, asked, listener, &method, &step))
            }
            (Step::Exchange { .. }, None) => {
                Some(Answer::failed(ReasonCode::BadAuthenticationMethod, NO_METHOD))
            }
            (Step::Basic { client_id, username, password }, Some(methods)) => {
                let mut case = Case::new(asked, listener, peer, client_id, username, password);
                case.certificate_user = certificate_user;
                methods.judge(case)
            }
            // No method is configured, so nobody can be known.
            (Step::Basic { .. }, None) => Some(Answer::failed(ReasonCode::NotAuthorized, NO_METHOD)),
        }
    }

    fn judge_exchange(
        &self,
        methods: &Methods,
        asked: Asked,
        listener: ListenerNumber,
        method: &str,
        step: &ExchangeStep,
    ) -> Answer {
        let (name, judged) = match method {
            SCRAM_METHOD if methods.asks(listener, AuthMethod::Scram) => {
                ("scram", self.judge_scram(methods, asked, step))
            }
            JWT_METHOD if methods.asks(listener, AuthMethod::Jwt) => {
                ("jwt", methods.judge_renewal(&step.data).ok_or(None))
            }
            // Another listener may have the method.
            _ => return Answer::failed(ReasonCode::BadAuthenticationMethod, NO_METHOD),
        };
        judged.unwrap_or_else(|user| {
            debug!(%method, user = ?user.as_ref().or(step.username.as_ref()), "refused");
            // On an open connection DISCONNECT carries the reason, and has no 0x86.
            let reason =
                if step.is_open { ReasonCode::NotAuthorized } else { ReasonCode::BadUserNameOrPassword };
            Answer::failed_as(user, reason, name)
        })
    }

    /// Judges a step of SCRAM.
    ///
    /// # Errors
    /// If the client is refused: the user whom its exchange names, if it names one.
    fn judge_scram(
        &self,
        methods: &Methods,
        asked: Asked,
        step: &ExchangeStep,
    ) -> Result<Answer, Option<String>> {
        if !step.begins {
            let exchange = self.exchanges.borrow_mut().take(asked.connection).ok_or(None)?;
            let Ok(last) = exchange.end(&step.data) else { return Err(Some(exchange.user)) };
            let identity = Identity { user: Some(exchange.user), is_listed: true, ..Identity::default() };
            return Ok(Methods::success(last.into_bytes(), identity, "scram"));
        }
        let first = ClientFirst::parse(&step.data).map_err(|_| None)?;
        // The name in CONNECT is optional, and must not be another one.
        if step.username.as_ref().is_some_and(|username| *username != first.user) {
            return Err(Some(first.user));
        }
        let mut random = [0; NONCE_BYTES];
        getrandom::fill(&mut random).map_err(|_| None)?;
        let (exchange, answer) = methods.begin_scram(first, random).ok_or(None)?;
        self.exchanges.borrow_mut().insert(asked.connection, exchange);
        Ok(Answer::Continue(answer.into_bytes()))
    }
}
