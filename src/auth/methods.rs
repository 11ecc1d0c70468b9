//! The chain of methods that a listener asks about a client. The first that knows the client decides; a method passes the client on
//! only if it finds nothing that is addressed to it. An error in a method refuses the client.
//! All methods name users in one namespace, so patterns bound the names that each may give.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use engine::Instant;
use tracing::debug;
use wire::ReasonCode;
use zeroize::Zeroizing;

use super::answers::Answers;
use super::hook;
use super::jwt::{self, Claims, KeySet, TokenFault, TokenRules};
use super::names::NamePatterns;
use super::password::remembered::{Memory, Recollection, Remembered};
use super::password::{HashMemory, StoredHash};
use super::pool::{HashJob, HashPool, HashWork};
use super::question::{ANONYMOUS, Answer, Asked, NO_METHOD, OwnedGrant};
use super::scram::{ClientFirst, Exchange, NONCE_BYTES};
use super::shared::{Locked, Shared};
use super::side::Side;
use super::snapshot::Store;
use crate::config::ListenerConfig;
use crate::config::auth::AuthMethod;
use crate::net::listen::{ListenerNumber, NUMBERS_MAX};
use crate::process::clock::{self, Clock};
use crate::process::held_bytes::{AUTHENTICATION, Hold};

/// The methods of one listener.
#[derive(Debug)]
pub(super) struct ListenerMethods {
    pub(super) name: String,
    /// In the order in which they are asked.
    pub(super) methods: Vec<AuthMethod>,
    /// Whether a client without name, password and method is let in.
    pub(super) anonymous: bool,
}

impl ListenerMethods {
    /// A place for the methods of each number, empty.
    pub(super) fn places() -> Box<[OnceLock<Self>]> {
        (0..NUMBERS_MAX).map(|_| OnceLock::new()).collect()
    }

    pub(super) fn of(config: &ListenerConfig) -> Self {
        Self {
            name: config.name.clone(),
            methods: config.methods().to_vec(),
            anonymous: config.allows_anonymous(),
        }
    }
}

/// The opinion of one method about a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    /// The client is this user.
    Allow(Identity),
    /// The client is refused.
    Deny(ReasonCode),
    /// The method finds nothing that is addressed to it.
    Next,
}

/// A user as a method has recognised it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// Name of the user.
    pub(super) user: Option<String>,
    /// Roles that the method states, in addition to those of the configuration.
    pub(super) roles: Vec<String>,
    /// Time until the identity ends.
    pub(super) lifetime: Option<Duration>,
    /// Whether a file of users recognised it.
    pub(super) is_listed: bool,
}

/// A CONNECT on its way through the methods. It owns its parts, so that any thread may go on with it. Its password is wiped with it.
pub(super) struct Case {
    pub(super) asked: Asked,
    pub(super) listener: ListenerNumber,
    pub(super) peer: Option<SocketAddr>,
    pub(super) client_id: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<Zeroizing<Vec<u8>>>,
    /// The user name in its certificate.
    pub(super) certificate_user: Option<Box<str>>,
    /// When the client's time for CONNECT is over.
    pub(super) deadline: Instant,
    /// Methods that have been asked.
    pub(super) asked_count: usize,
    /// The name of the one that was asked last.
    pub(super) method: &'static str,
    /// Counts its bytes.
    _held: Hold,
}

impl Case {
    /// A client that no method has been asked about.
    pub(super) fn new(
        asked: Asked,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
        client_id: String,
        username: Option<String>,
        password: Option<Zeroizing<Vec<u8>>>,
    ) -> Self {
        let deadline = Instant::from_ms(u64::MAX);
        let certificate_user = None;
        let texts = client_id.len() + username.as_ref().map_or(0, String::len);
        let held = size_of::<Self>() + texts + password.as_ref().map_or(0, |password| password.len());
        Self {
            asked,
            listener,
            peer,
            client_id,
            username,
            password,
            certificate_user,
            deadline,
            asked_count: 0,
            method: NO_METHOD,
            _held: AUTHENTICATION.hold(held),
        }
    }

    /// The user whose name the client has sent, as the password file knows it.
    pub(super) fn listed_identity(&self) -> Identity {
        Identity { user: self.username.clone(), is_listed: true, ..Identity::default() }
    }
}

/// The configured methods. **Lives on:** any thread; shards, threads of hashes and the side thread share it.
pub(super) struct Methods {
    /// By number.
    pub(super) listeners: Box<[OnceLock<ListenerMethods>]>,
    pub(super) store: Shared<Store>,
    pub(super) password: Option<PasswordMethod>,
    pub(super) scram: Option<ScramMethod>,
    pub(super) token: Option<TokenMethod>,
    pub(super) http: Option<HttpMethod>,
    pub(super) side: Side,
    pub(super) answers: Answers,
    pub(super) clock: Clock,
    pub(super) connect_timeout_ms: u64,
}

/// Passwords and device keys.
pub(super) struct PasswordMethod {
    pub(super) names: NamePatterns,
    pub(super) memory: Memory,
    pub(super) remembered: Locked<Remembered>,
    pub(super) pool: HashPool,
}

/// SCRAM-SHA-256.
pub(super) struct ScramMethod {
    pub(super) names: NamePatterns,
    /// A secret that outlives the process.
    pub(super) kept_key: Zeroizing<[u8; 32]>,
}

/// Signed tokens.
pub(super) struct TokenMethod {
    pub(super) rules: TokenRules,
    pub(super) names: NamePatterns,
    /// Whether the token travels in AUTH, or else as the password.
    pub(super) by_method: bool,
}

/// The operator's service.
pub(super) struct HttpMethod {
    pub(super) names: NamePatterns,
}

/// The refusal of a client in CONNACK: the same for a wrong password and an unknown user.
pub(super) const REFUSED: Opinion = Opinion::Deny(ReasonCode::BadUserNameOrPassword);

impl Methods {
    /// Asks the methods about a client that none has been asked about. `None` if the answer comes later.
    pub(super) fn judge(self: &Shared<Self>, mut case: Case) -> Option<Answer> {
        case.deadline = self.clock.now().plus_ms(self.connect_timeout_ms);
        self.proceed(case)
    }

    /// Goes on with a client for whom a slow method has an opinion, and sends the answer.
    pub(super) fn resume(self: &Shared<Self>, case: Case, opinion: Opinion) {
        let asked = case.asked;
        let answer = match opinion {
            Opinion::Next => self.proceed(case),
            opinion => Some(Self::conclude(&case, opinion)),
        };
        if let Some(answer) = answer {
            self.answers.send(asked, answer);
        }
    }

    /// Goes on with a client whose password was compared with `stored`. If the user has changed meanwhile, the client is refused: the
    /// change is told to the shards behind this answer, so none that was judged by the old file stays.
    pub(super) fn resume_compared(
        self: &Shared<Self>,
        case: Case,
        stored: Option<&StoredHash>,
        opinion: Opinion,
    ) {
        if !matches!(opinion, Opinion::Allow(_)) {
            return self.resume(case, opinion);
        }
        self.store.hold(|snapshot| {
            let user = case.username.as_deref().unwrap_or_default();
            let is_current = snapshot.users.find(user) == stored;
            let opinion = if is_current { opinion } else { REFUSED };
            self.answers.send(case.asked, Self::conclude(&case, opinion));
        });
    }

    /// True if the client's time for CONNECT is over, so that no answer reaches it.
    pub(super) fn is_abandoned(&self, case: &Case) -> bool {
        self.clock.now() >= case.deadline
    }

    /// Asks the methods that have not been asked.
    fn proceed(self: &Shared<Self>, mut case: Case) -> Option<Answer> {
        let Some(listener) = self.listeners[case.listener.index()].get() else {
            return Some(Self::conclude(&case, REFUSED));
        };
        while let Some(method) = listener.methods.get(case.asked_count) {
            case.asked_count += 1;
            case.method = name(*method);
            let opinion = match method {
                AuthMethod::Password => match self.judge_password(&case) {
                    Judged::At(opinion) => opinion,
                    Judged::Slow(job) => return self.queue(case, *job),
                },
                AuthMethod::Jwt => self.judge_token(&case),
                AuthMethod::Http => match self.judge_http(&case, &listener.name) {
                    Ok(opinion) => opinion,
                    Err(body) => return self.ask_service(case, body),
                },
                AuthMethod::Certificate => Self::judge_certificate(&case),
                // An exchange is judged where it is, and CONNECT has none.
                AuthMethod::Scram => Opinion::Next,
            };
            if opinion != Opinion::Next {
                return Some(Self::conclude(&case, opinion));
            }
        }
        let sent_nothing = case.username.is_none() && case.password.is_none();
        let is_let_in = listener.anonymous && sent_nothing;
        case.method = if is_let_in { ANONYMOUS } else { NO_METHOD };
        let opinion = if is_let_in { Opinion::Allow(Identity::default()) } else { REFUSED };
        Some(Self::conclude(&case, opinion))
    }

    /// The name in a certificate that TLS has verified is the user's, whatever name CONNECT has.
    fn judge_certificate(case: &Case) -> Opinion {
        match &case.certificate_user {
            Some(user) => Opinion::Allow(Identity { user: Some(user.clone().into()), ..Identity::default() }),
            None => Opinion::Next,
        }
    }

    /// The answer of an opinion that decides.
    fn conclude(case: &Case, opinion: Opinion) -> Answer {
        match opinion {
            Opinion::Allow(identity) => Self::success(Vec::new(), identity, case.method),
            Opinion::Deny(reason) => {
                debug!(client = ?case.client_id, user = ?case.username, ?reason, "refused");
                Answer::failed(reason, case.method)
            }
            Opinion::Next => Answer::failed(ReasonCode::BadUserNameOrPassword, case.method),
        }
    }

    /// A listener has a new number.
    pub(super) fn add_listener(&self, number: u16, config: &ListenerConfig) {
        let place = &self.listeners[usize::from(number)];
        assert!(place.set(ListenerMethods::of(config)).is_ok(), "a number is given once");
    }

    /// True if a listener asks this method.
    pub(super) fn asks(&self, listener: ListenerNumber, method: AuthMethod) -> bool {
        let listener = self.listeners[listener.index()].get();
        listener.is_some_and(|listener| listener.methods.contains(&method))
    }

    /// Judges a token that comes in AUTH. `None` refuses the client.
    pub(super) fn judge_renewal(&self, token: &[u8]) -> Option<Answer> {
        let method = self.token.as_ref().filter(|method| method.by_method)?;
        let identity = self.judge_claims(method, token).ok()?;
        Some(Self::success(Vec::new(), identity, "jwt"))
    }

    /// Begins an exchange of SCRAM, and returns the server's first message. `None` if SCRAM is not configured.
    pub(super) fn begin_scram(
        &self,
        first: ClientFirst<'_>,
        random: [u8; NONCE_BYTES],
    ) -> Option<(Exchange, String)> {
        let method = self.scram.as_ref()?;
        let snapshot = self.store.load();
        let verifier = match snapshot.scram_users.find(&first.user) {
            Some(StoredHash::Scram(verifier)) if method.names.allow(&first.user) => Some(verifier.clone()),
            // A user with a password of another kind cannot prove it so.
            Some(_) | None => None,
        };
        Some(Exchange::begin(first, verifier, method.kept_key.as_slice(), random))
    }

    /// The answer that lets a user in.
    pub(super) fn success(data: Vec<u8>, identity: Identity, method: &'static str) -> Answer {
        let Identity { user, roles, lifetime, is_listed } = identity;
        let grant = OwnedGrant {
            method,
            user: user.map(String::into_boxed_str),
            // No issuer gives the role of operators.
            roles: roles
                .into_iter()
                .filter(|role| !role.contains('\0'))
                .map(String::into_boxed_str)
                .collect(),
            client_id_must_be: None,
            lifetime,
            is_listed,
        };
        Answer::Success { data, grant }
    }

    fn judge_password(&self, case: &Case) -> Judged {
        let (Some(method), Some(user), Some(password)) = (&self.password, &case.username, &case.password)
        else {
            return Judged::At(Opinion::Next);
        };
        let snapshot = self.store.load();
        let stored = snapshot.users.find(user);
        if stored.is_some() && !method.names.allow(user) {
            return Judged::At(REFUSED);
        }
        let of = |is_right| match (stored, is_right) {
            (Some(_), true) => Opinion::Allow(case.listed_identity()),
            (Some(_), false) => REFUSED,
            (None, _) => Opinion::Next,
        };
        // A user who does not exist is judged as one with the costliest hash, down to what is remembered of the attempt.
        let (Some(costliest), compared) = (snapshot.users.costliest(), stored.or(snapshot.users.costliest()))
        else {
            return Judged::At(of(false));
        };
        let compared = compared.unwrap_or(costliest);
        let is_right = compared.is_cheap() && compared.verify(password, &mut HashMemory::default());
        if costliest.is_cheap() || (is_right && stored.is_some()) {
            return Judged::At(of(is_right));
        }
        let recollection = method.memory.of(user, password, compared);
        let recalled = method.remembered().recall(recollection, self.clock.now().as_ms());
        match recalled {
            Some(is_right) => Judged::At(of(is_right)),
            None => Judged::Slow(Box::new(HashWork {
                stored: stored.cloned(),
                costliest: costliest.clone(),
                recollection,
            })),
        }
    }

    /// Queues a slow hash. A job that leaves the full queue is answered: the server is busy.
    fn queue(&self, case: Case, work: HashWork) -> Option<Answer> {
        let asked = case.asked;
        let method = self.password.as_ref().expect("a slow hash is of the password method");
        let evicted = method.pool.push(HashJob { case, work })?;
        let busy = Self::conclude(&evicted.case, Opinion::Deny(ReasonCode::ServerBusy));
        if evicted.case.asked == asked {
            return Some(busy);
        }
        self.answers.send(evicted.case.asked, busy);
        None
    }

    /// Remembers the judgement of a slow hash.
    pub(super) fn remember(&self, recollection: Recollection, is_right: bool) {
        if let Some(method) = &self.password {
            method.remembered().remember(recollection, is_right, self.clock.now().as_ms());
        }
    }

    fn judge_token(&self, case: &Case) -> Opinion {
        match (&self.token, &case.password) {
            (Some(method), Some(token)) if !method.by_method => match self.judge_claims(method, token) {
                Ok(identity) => Opinion::Allow(identity),
                Err(TokenFault::NoToken) => Opinion::Next,
                Err(_) => REFUSED,
            },
            (Some(_) | None, _) => Opinion::Next,
        }
    }

    /// Judges a token: the user that it names.
    ///
    /// # Errors
    /// If it is not accepted.
    pub(super) fn judge_claims(&self, method: &TokenMethod, token: &[u8]) -> Result<Identity, TokenFault> {
        let snapshot = self.store.load();
        let keys: Vec<&KeySet> = snapshot.key_sets.iter().map(|keys| &**keys).collect();
        let judged = jwt::judge(token, &keys, &method.rules, clock::unix_s()).and_then(|claims| {
            let Claims { user, roles, lifetime } = claims;
            if method.names.allow(&user) {
                Ok(Identity { user: Some(user), roles, lifetime: Some(lifetime), is_listed: false })
            } else {
                Err(TokenFault::Claims)
            }
        });
        if let Err(fault) = judged {
            debug!(?fault, "token refused");
            if fault == TokenFault::UnknownKey {
                self.side.want_keys();
            }
        }
        judged
    }

    /// An opinion about a client that the service is not asked about, or the body of the question.
    fn judge_http(&self, case: &Case, listener: &str) -> Result<Opinion, Zeroizing<Vec<u8>>> {
        let Some(method) = &self.http else { return Ok(Opinion::Next) };
        let is_addressed = case.username.is_some() || case.password.is_some();
        if !is_addressed || case.username.as_ref().is_some_and(|user| !method.names.allow(user)) {
            return Ok(Opinion::Next);
        }
        // A password that is no text cannot be asked about.
        hook::question(case, listener).map_or(Ok(REFUSED), Err)
    }

    fn ask_service(&self, case: Case, body: Zeroizing<Vec<u8>>) -> Option<Answer> {
        let case = self.side.ask(case, body)?;
        Some(Self::conclude(&case, Opinion::Deny(ReasonCode::ServerBusy)))
    }
}

impl PasswordMethod {
    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().expect("no thread panics while it holds the lock")
    }
}

/// The name of a method in the log, as the configuration has it.
fn name(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::Certificate => "certificate",
        AuthMethod::Jwt => "jwt",
        AuthMethod::Password => "password",
        AuthMethod::Scram => "scram",
        AuthMethod::Http => "http",
    }
}

/// A password that is judged at once, or the work that judges it.
enum Judged {
    At(Opinion),
    Slow(Box<HashWork>),
}
