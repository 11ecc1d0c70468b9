//! A question about a client, owned so that any thread may answer it, and the answer.
//!
//! Passwords and data of methods are overwritten when they are dropped, and no `Debug` form shows them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use engine::{AuthenticationStep, ConnectionId, Instant, UserGrant, Verdict};
use wire::ReasonCode;
use zeroize::Zeroizing;

use super::scram::{ClientFirst, SCRAM_METHOD};
use crate::net::listen::ListenerNumber;

/// The step that a question is about: an answer to any other is stale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) shard: u16,
    pub(crate) connection: ConnectionId,
    /// The number of the step.
    pub(crate) step: u64,
    /// When it was asked.
    pub(crate) began: std::time::Instant,
}

/// A question about a client.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) listener: ListenerNumber,
    /// `None` if the peer was gone before it could be known.
    pub(crate) peer: Option<SocketAddr>,
    /// The user name in the client's certificate, which TLS has verified; `None` without one.
    pub(crate) certificate_user: Option<Box<str>>,
    pub(crate) step: Step,
}

/// An [`AuthenticationStep`] that owns its parts. Its `Debug` form has neither password nor data.
pub(crate) enum Step {
    /// CONNECT without a method of authentication.
    Basic {
        /// Assigned, or the client's own.
        client_id: String,
        username: Option<String>,
        password: Option<Zeroizing<Vec<u8>>>,
    },
    /// A step of enhanced authentication.
    Exchange {
        method: String,
        data: Zeroizing<Vec<u8>>,
        /// Whether an exchange begins with it.
        begins: bool,
        /// `None` on an open connection.
        client_id: Option<String>,
        /// The user name of CONNECT; `None` on an open connection.
        username: Option<String>,
    },
}

impl fmt::Debug for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { client_id, username, password } => formatter
                .debug_struct("Basic")
                .field("client_id", client_id)
                .field("username", username)
                .field("has_password", &password.is_some())
                .finish(),
            Self::Exchange { method, begins, client_id, username, .. } => formatter
                .debug_struct("Exchange")
                .field("method", method)
                .field("begins", begins)
                .field("client_id", client_id)
                .field("username", username)
                .finish_non_exhaustive(),
        }
    }
}

impl Step {
    /// The same step.
    pub(crate) fn of(step: &AuthenticationStep<'_>) -> Self {
        match *step {
            AuthenticationStep::Basic { client_id, username, password, .. } => {
                let client_id = client_id.to_owned();
                let username = username.map(str::to_owned);
                let password = password.map(|password| Zeroizing::new(password.to_vec()));
                Self::Basic { client_id, username, password }
            }
            AuthenticationStep::Exchange { method, data, begins, client_id, username, .. } => {
                let method = method.to_owned();
                let data = Zeroizing::new(data.to_vec());
                let client_id = client_id.map(str::to_owned);
                let username = username.map(str::to_owned);
                Self::Exchange { method, data, begins, client_id, username }
            }
        }
    }

    /// The user whom the first message of an exchange names, where CONNECT may name none.
    pub(crate) fn user_of_exchange(&self) -> Option<String> {
        match self {
            Self::Exchange { method, data, begins: true, .. } if method == SCRAM_METHOD => {
                ClientFirst::parse(data).ok().map(|first| first.user)
            }
            Self::Basic { .. } | Self::Exchange { .. } => None,
        }
    }
}

/// The name of the method that lets clients in without a name.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// The name of the method that refuses a client whom no method knows.
pub(crate) const NO_METHOD: &str = "none";

/// The answer to a question.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The client is sent this and has to answer it; only in an exchange.
    Continue(Vec<u8>),
    /// The client is authenticated.
    Success {
        /// It is sent this last; only in an exchange.
        data: Vec<u8>,
        grant: OwnedGrant,
    },
    /// The client is refused.
    Failed {
        reason: ReasonCode,
        /// The method that refuses it.
        method: &'static str,
        /// The user whom an exchange names; `None` if it is CONNECT that names the user.
        user: Option<Box<str>>,
    },
}

/// A [`UserGrant`] that owns its parts.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct OwnedGrant {
    /// The method that gives it.
    pub(crate) method: &'static str,
    /// The name of the user; `None` for an anonymous client.
    pub(crate) user: Option<Box<str>>,
    /// Roles beside those of the user, such as a token's.
    pub(crate) roles: Vec<Box<str>>,
    /// The client identifier that the user is bound to.
    pub(crate) client_id_must_be: Option<Box<str>>,
    /// The time until the grant ends; `None`: it does not.
    pub(crate) lifetime: Option<Duration>,
    /// Whether a file of users recognised the user.
    pub(crate) is_listed: bool,
}

impl Default for OwnedGrant {
    /// The grant of an anonymous client without rules.
    fn default() -> Self {
        Self {
            method: ANONYMOUS,
            user: None,
            roles: Vec::new(),
            client_id_must_be: None,
            lifetime: None,
            is_listed: false,
        }
    }
}

impl Answer {
    /// The answer that lets a client in as nobody.
    pub(crate) fn anonymous() -> Self {
        Self::Success { data: Vec::new(), grant: OwnedGrant::default() }
    }

    /// The answer that refuses a client for this reason by this method.
    pub(crate) fn failed(reason: ReasonCode, method: &'static str) -> Self {
        Self::Failed { reason, method, user: None }
    }

    /// The answer that refuses a client as [`Answer::failed`] does, whose exchange names this user.
    pub(crate) fn failed_as(user: Option<String>, reason: ReasonCode, method: &'static str) -> Self {
        Self::Failed { reason, method, user: user.map(String::into_boxed_str) }
    }

    /// The user who is refused, where an exchange names it.
    pub(crate) fn refused_user(&self) -> Option<&str> {
        match self {
            Self::Failed { user, .. } => user.as_deref(),
            Self::Continue(_) | Self::Success { .. } => None,
        }
    }

    /// The method that decided; `None` if nothing is decided.
    pub(crate) fn method(&self) -> Option<&'static str> {
        match self {
            Self::Continue(_) => None,
            Self::Success { grant, .. } => Some(grant.method),
            Self::Failed { method, .. } => Some(method),
        }
    }

    /// Passes the verdict on; `now` is when a lifetime begins.
    pub(crate) fn pass<R>(&self, now: Instant, take: impl FnOnce(Verdict<'_>) -> R) -> R {
        match self {
            Self::Continue(data) => take(Verdict::Continue(data)),
            Self::Failed { reason, .. } => take(Verdict::Failed(*reason)),
            Self::Success { data, grant } => {
                let lifetime_ms =
                    |lifetime: Duration| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
                let roles: Vec<&str> = grant.roles.iter().map(AsRef::as_ref).collect();
                let grant = UserGrant {
                    user: grant.user.as_deref(),
                    roles: &roles,
                    client_id_must_be: grant.client_id_must_be.as_deref(),
                    expires_at: grant.lifetime.map(|lifetime| now.plus_ms(lifetime_ms(lifetime))),
                    is_listed: grant.is_listed,
                };
                take(Verdict::Success { data, grant: &grant })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_shows_no_secret() {
        let basic = AuthenticationStep::Basic {
            client_id: "a",
            username: Some("ann"),
            password: Some(b"hunter2"),
            listener: 3,
        };
        let exchange = AuthenticationStep::Exchange {
            method: "m",
            data: b"hunter2",
            begins: true,
            client_id: Some("a"),
            username: None,
            listener: 3,
        };
        for step in [basic, exchange] {
            let listener = ListenerNumber::default();
            let shown = format!(
                "{:?}",
                Question { listener, peer: None, certificate_user: None, step: Step::of(&step) }
            );
            assert!(shown.contains("\"a\""), "{shown}");
            assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
        }
    }

    #[test]
    fn an_answer_becomes_the_verdict_that_it_stands_for() {
        let now = Instant::from_ms(1_000);
        assert!(Answer::Continue(vec![1]).pass(now, |verdict| verdict == Verdict::Continue(&[1])));
        let banned = ReasonCode::Banned;
        assert!(Answer::failed(banned, NO_METHOD).pass(now, |verdict| verdict == Verdict::Failed(banned)));
        let answer = |lifetime| {
            let grant = OwnedGrant {
                method: "password",
                user: Some("ann".into()),
                roles: vec!["operator".into()],
                client_id_must_be: Some("a".into()),
                lifetime,
                is_listed: true,
            };
            Answer::Success { data: vec![2], grant }
        };
        for (lifetime, expires_ms) in
            [(None, None), (Some(Duration::from_secs(5)), Some(6_000)), (Some(Duration::MAX), Some(u64::MAX))]
        {
            answer(lifetime).pass(now, |verdict| {
                let grant = UserGrant {
                    user: Some("ann"),
                    roles: &["operator"],
                    client_id_must_be: Some("a"),
                    expires_at: expires_ms.map(Instant::from_ms),
                    is_listed: true,
                };
                assert_eq!(verdict, Verdict::Success { data: &[2], grant: &grant });
            });
        }
    }
}
