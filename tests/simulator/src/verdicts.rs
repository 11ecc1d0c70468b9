//! Verdicts that come late: each CONNECT is a question, and its answer comes turns later, after others, after stale ones, or when the
//! connection has gone. Strangers name client identifiers of others, and are refused, or recognised as another user.
//!
//! The oracle: a connection is sent nothing but a refusal before the verdict that recognises the owner of its client identifier. So nothing
//! of a session reaches a connection without a verdict, or another user.

use engine::{AuthenticationStep, ConnectionId, Event, UserGrant, Verdict};
use wire::packet::{Connect, ConnectProperties};
use wire::{Packet, ProtocolVersion, ReasonCode};

use crate::link::{ClientEnd, Link};
use crate::world::World;

/// The user of a connection that names the identifier of another.
const STRANGER: &str = "stranger";
/// Greatest time until a verdict, in milliseconds.
const LATE_MS_MAX: u64 = 20;
/// Of 1000 turns, how many bring a stranger.
const STRANGERS_PERMILLE: u64 = 30;
/// First byte of CONNACK, and where its reason stands: behind length and flags.
const CONNACK: u8 = 0x20;
const REASON_AT: usize = 3;

/// A question that waits for its verdict.
#[derive(Debug)]
pub(crate) struct Question {
    connection: ConnectionId,
    step: u64,
    link: usize,
    due_ms: u64,
    /// The user that CONNECT names, and the client identifier.
    user: String,
    client_id: String,
}

/// The oracle's view of a link: who may have the session, and what was sent before it was known.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// The user that the session of the client identifier belongs to.
    owner: String,
    /// The step that is due.
    step: Option<u64>,
    is_admitted: bool,
    /// Bytes that were sent before.
    refused_with: Vec<u8>,
}

/// The user that owns the session of a client identifier.
pub(crate) fn owner_of(client_id: &str) -> String {
    format!("user-of-{client_id}")
}

impl Admission {
    pub(crate) fn of(client_id: &str) -> Self {
        Self { owner: owner_of(client_id), ..Self::default() }
    }
}

impl World {
    /// The engine asks about a client.
    pub(crate) fn ask(&mut self, shard: usize, connection: ConnectionId, step: u64) {
        let Some(link) = self.link_of(shard, connection) else { return };
        let asked = self.shards[shard].engine.authentication_step(connection, step);
        let Some(AuthenticationStep::Basic { client_id, username, .. }) = asked else {
            self.oracle.fail(format!("step {step} is asked about and not due"));
            return;
        };
        let (user, client_id) = (username.unwrap_or_default().to_owned(), client_id.to_owned());
        let due_ms = self.now_ms + self.verdicts.below(LATE_MS_MAX + 1);
        self.note("asked", [shard, link, 0, 0]);
        self.links[link].admission.step = Some(step);
        self.shards[shard].questions.push(Question { connection, step, link, due_ms, user, client_id });
    }

    /// Gives the verdicts that are due, in any order, and stale ones with them.
    pub(crate) fn deliver_verdicts(&mut self, shard: usize) {
        if !self.settings.judges {
            return;
        }
        if self.settings.random && self.verdicts.below(1_000) < STRANGERS_PERMILLE {
            self.send_stranger(shard);
        }
        let now_ms = self.now_ms;
        let mut due: Vec<Question> =
            self.shards[shard].questions.extract_if(.., |question| question.due_ms <= now_ms).collect();
        self.verdicts.shuffle(&mut due);
        for question in due {
            // Steps before and behind the one that is due.
            if self.verdicts.percent(30) {
                for step in [question.step.wrapping_sub(1), question.step + 1] {
                    self.pass_verdict(shard, question.connection, step, Some(&question.user));
                }
            }
            let owner = owner_of(&question.client_id);
            let has_owner = self.shards[shard].engine.owner_of(&question.client_id) == Some(&*owner);
            // A stranger is refused by its method, or is somebody else: then the session has to keep it out.
            let is_refused = question.user == STRANGER && !(has_owner && self.verdicts.percent(50));
            let user = (!is_refused).then_some(&*question.user);
            let admission = &mut self.links[question.link].admission;
            let is_current = admission.step == Some(question.step);
            admission.is_admitted |= is_current && user == Some(&*owner);
            self.pass_verdict(shard, question.connection, question.step, user);
            // Once more, when it is judged.
            if self.verdicts.percent(30) {
                self.pass_verdict(shard, question.connection, question.step, Some(&owner));
            }
        }
    }

    /// A verdict: this user, or a refusal.
    fn pass_verdict(&mut self, shard: usize, connection: ConnectionId, step: u64, user: Option<&str>) {
        self.note("verdict", [shard, connection.slot() as usize, usize::from(user.is_some()), 0]);
        let grant = UserGrant { user, ..UserGrant::NOBODY };
        let verdict = match user {
            Some(_) => Verdict::Success { data: b"", grant: &grant },
            None => Verdict::Failed(ReasonCode::BadUserNameOrPassword),
        };
        self.step(shard, Event::Authenticated { connection, step, verdict });
    }

    /// A connection that names the identifier of a client that it is not, asks for everything, and leaves.
    ///
    /// # Panics
    /// If there is no client.
    pub fn send_stranger(&mut self, shard: usize) {
        let client = self.verdicts.index(self.identities.len());
        let name = self.identities[client].name.clone();
        let version = self.verdicts.pick(&[ProtocolVersion::V3_1_1, ProtocolVersion::V5]);
        let at = self.links.len();
        self.note("stranger", [client, shard, at, 0]);
        let mut link = Link::new(None, &name);
        let connect = Connect {
            version,
            is_bridge: false,
            clean_start: self.verdicts.percent(50),
            keep_alive_s: 0,
            client_id: &name,
            will: None,
            user_name: Some(STRANGER),
            password: None,
            properties: ConnectProperties::default(),
        };
        let mut bytes = Vec::new();
        connect.encode(version, &mut bytes);
        if self.verdicts.percent(50) {
            Packet::PingReq.encode(version, &mut bytes);
        }
        link.inbound.extend(bytes);
        link.client_end = ClientEnd::Finished;
        self.links.push(link);
        self.shards[shard].accepts.push_back(at);
    }

    /// Judges bytes that leave on a link.
    pub(crate) fn judge_sent(&mut self, at: usize, bytes: &[u8]) {
        let admission = &mut self.links[at].admission;
        if !self.settings.judges || admission.is_admitted || bytes.is_empty() {
            return;
        }
        admission.refused_with.extend_from_slice(bytes);
        let sent = &admission.refused_with;
        let is_refusal = sent[0] == CONNACK
            && sent.get(REASON_AT).is_none_or(|&reason| reason != 0)
            && sent.get(1).is_none_or(|&length| sent.len() <= 2 + usize::from(length));
        if !is_refusal {
            let owner = &admission.owner;
            self.oracle.fail(format!("link {at} was sent {sent:02x?} without a verdict for {owner}"));
        }
    }

    /// Whether a question waits for its verdict.
    pub(crate) fn has_questions(&self) -> bool {
        self.shards.iter().any(|shard| !shard.questions.is_empty())
    }
}
