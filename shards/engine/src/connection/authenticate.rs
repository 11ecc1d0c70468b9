//! Enhanced authentication [4.12]: the exchange that CONNECT begins, and the one that repeats it on an open connection.
//! Knows no method and looks into no data; the host judges each step.

use alloc::boxed::Box;

use wire::packet::{Auth, AuthProperties, Connect};
use wire::{PacketType, ReasonCode};

use crate::base::time::Instant;
use crate::connection::table::{Admission, ConnectionId, Phase};
use crate::engine::Engine;
use crate::event::{Action, Actions};

/// What a client said in one step, for the host to judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthenticationStep<'a> {
    /// One of `Limits::authentication_methods`.
    pub method: &'a str,
    /// Data of that method, at most `Limits::authentication_bytes_max` bytes; no data and empty data are one.
    pub data: &'a [u8],
    /// Whether an exchange begins with it: CONNECT, or the request to repeat it [MQTT-4.12.1-1].
    pub begins: bool,
}

/// What the host makes of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// The client is sent this and has to answer it.
    Continue(&'a [u8]),
    /// The client is who it says; it is sent this last.
    Success(&'a [u8]),
    /// It is not: it is told why and closed. A reason that CONNACK and DISCONNECT do not both know becomes 0x87.
    Failed(ReasonCode),
}

/// Whose word is due in an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaiting {
    /// The host's, about this step.
    Host { step: u64, begins: bool },
    /// The client's.
    Client,
    /// Nobody's: the client is authenticated.
    Nobody,
}

/// **Lives on:** a connection whose CONNECT named a method.
#[derive(Debug)]
pub(crate) struct Authentication {
    method: Box<str>,
    /// The body of CONNECT until the client is let in: nothing of it counts before. Empty afterwards.
    connect: Box<[u8]>,
    /// What the client said, until the host has judged it. Bounded by `Limits::authentication_bytes_max`.
    data: Box<[u8]>,
    due: Awaiting,
}

impl Authentication {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        (self.method.len() + self.connect.len() + self.data.len()) as u64
    }
}

impl Engine {
    /// CONNECT named a method that the host knows: its client is let in once the host says so.
    pub(crate) fn begin_authentication(
        &mut self,
        now: Instant,
        id: ConnectionId,
        method: &str,
        connect: &Connect<'_>,
        body: &[u8],
        actions: &mut Actions,
    ) {
        let data = connect.properties.authentication_data.unwrap_or_default();
        if self.exceeds_data_limit(method, data) {
            self.refuse_connect(now, id, connect.version, ReasonCode::QuotaExceeded, None, actions);
            return;
        }
        let connection = self.connection(id);
        connection.phase = Phase::Authenticating;
        let authentication = Box::new(Authentication {
            method: method.into(),
            connect: body.into(),
            data: Box::default(),
            due: Awaiting::Nobody,
        });
        let bytes = authentication.bytes();
        connection.authentication = Some(authentication);
        self.delivery.held.authentications += bytes;
        self.request_verdict(id, data, true, actions);
    }

    /// AUTH from a client. Before CONNACK only this and DISCONNECT may come [MQTT-3.1.2-30].
    pub(crate) fn on_auth(&mut self, now: Instant, id: ConnectionId, auth: &Auth<'_>, actions: &mut Actions) {
        let connection = self.connection(id);
        let is_open = connection.is_open();
        // Without a method in CONNECT there is no AUTH [MQTT-4.12.0-7], and a method stays [MQTT-4.12.0-5].
        let authentication = connection
            .authentication
            .as_ref()
            .filter(|known| auth.properties.authentication_method == Some(&*known.method));
        let begins = match (authentication.map(|known| known.due), auth.reason) {
            (Some(Awaiting::Client), ReasonCode::ContinueAuthentication) => Some(false),
            (Some(Awaiting::Nobody), ReasonCode::ReAuthenticate) if is_open => Some(true),
            _ => None,
        };
        let Some(begins) = begins else {
            self.delivery.counters.protocol_errors += 1;
            self.fail_authentication(now, id, ReasonCode::ProtocolError, actions);
            return;
        };
        let data = auth.properties.authentication_data.unwrap_or_default();
        if self.exceeds_data_limit("", data) {
            self.fail_authentication(now, id, ReasonCode::QuotaExceeded, actions);
            return;
        }
        self.request_verdict(id, data, begins, actions);
    }

    /// What a client said in a step that [`Action::Authenticate`] named; `None` once it was judged or the connection
    /// has ended.
    #[must_use]
    pub fn authentication_step(&self, id: ConnectionId, step: u64) -> Option<AuthenticationStep<'_>> {
        let authentication = self.delivery.connections.get(id.0)?.authentication.as_ref()?;
        match authentication.due {
            Awaiting::Host { step: due, begins } if due == step => Some(AuthenticationStep {
                method: &authentication.method,
                data: &authentication.data,
                begins,
            }),
            Awaiting::Host { .. } | Awaiting::Client | Awaiting::Nobody => None,
        }
    }

    /// The host has judged a step. A judgement of anything but the step that is due is counted and ignored.
    pub(crate) fn on_authenticated(
        &mut self,
        now: Instant,
        id: ConnectionId,
        step: u64,
        verdict: Verdict<'_>,
        actions: &mut Actions,
    ) {
        if self.authentication_step(id, step).is_none() {
            self.delivery.counters.stale += 1;
            return;
        }
        self.change_authentication(id, |authentication| authentication.data = Box::default());
        match verdict {
            Verdict::Continue(data) => {
                self.set_awaiting(id, Awaiting::Client);
                self.send_auth(now, id, ReasonCode::ContinueAuthentication, data, actions);
            }
            Verdict::Success(data) => {
                self.set_awaiting(id, Awaiting::Nobody);
                match self.connection(id).phase {
                    Phase::Authenticating => self.admit(now, id, data, actions),
                    Phase::Open(_) => self.send_auth(now, id, ReasonCode::Success, data, actions),
                    Phase::Fresh(_) | Phase::Accepting(_) | Phase::HandingOver | Phase::Closing => {
                        unreachable!("no step is due in this phase")
                    }
                }
            }
            Verdict::Failed(reason) => {
                self.delivery.counters.authentications_failed += 1;
                let is_known = [PacketType::ConnAck, PacketType::Disconnect]
                    .into_iter()
                    .all(|packet_type| reason.is_error() && reason.is_allowed_in(packet_type));
                let reason = if is_known { reason } else { ReasonCode::NotAuthorized };
                self.fail_authentication(now, id, reason, actions);
            }
        }
    }

    /// Ends a connection in the words of its phase: CONNACK before it is open [MQTT-4.12.0-4], DISCONNECT afterwards
    /// [MQTT-4.12.1-2]. Its session, if it had one before, is untouched by the first.
    pub(crate) fn fail_authentication(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: ReasonCode,
        actions: &mut Actions,
    ) {
        let connection = self.connection(id);
        match connection.phase {
            Phase::Authenticating => {
                let version = connection.version;
                let reason = if reason.is_allowed_in(PacketType::ConnAck) {
                    reason
                } else {
                    ReasonCode::ProtocolError
                };
                self.refuse_connect(now, id, version, reason, None, actions);
            }
            Phase::Fresh(_) | Phase::Accepting(_) | Phase::Open(_) | Phase::HandingOver | Phase::Closing => {
                self.close(now, id, Some(reason), actions);
            }
        }
    }

    /// The client that CONNECT named is who it says: CONNECT counts from now on.
    fn admit(&mut self, now: Instant, id: ConnectionId, data: &[u8], actions: &mut Actions) {
        let mut body = Box::default();
        let mut method = Box::default();
        self.change_authentication(id, |authentication| {
            body = core::mem::take(&mut authentication.connect);
            method = authentication.method.clone();
        });
        let connect = Connect::decode(&body).expect("it was decoded when it came");
        if let Some(reason) = self.connect_refusal(Admission::Serve, &connect) {
            self.refuse_connect(now, id, connect.version, reason, None, actions);
            return;
        }
        self.accept_connect(now, id, &connect, Some((&method, data)), actions);
    }

    fn exceeds_data_limit(&self, method: &str, data: &[u8]) -> bool {
        method.len() + data.len() > usize::from(self.delivery.limits.authentication_bytes_max)
    }

    fn request_verdict(&mut self, id: ConnectionId, data: &[u8], begins: bool, actions: &mut Actions) {
        self.authentication_steps += 1;
        let step = self.authentication_steps;
        self.change_authentication(id, |authentication| authentication.data = data.into());
        self.set_awaiting(id, Awaiting::Host { step, begins });
        actions.push(Action::Authenticate { connection: id, step });
    }

    fn set_awaiting(&mut self, id: ConnectionId, due: Awaiting) {
        self.change_authentication(id, |authentication| authentication.due = due);
    }

    fn change_authentication(&mut self, id: ConnectionId, change: impl FnOnce(&mut Authentication)) {
        let authentication = self.connection(id).authentication.as_mut();
        let authentication = authentication.expect("its CONNECT named a method");
        let before = authentication.bytes();
        change(authentication);
        let after = authentication.bytes();
        self.delivery.held.authentications += after;
        self.delivery.held.authentications -= before;
    }

    /// Sends AUTH with the method of CONNECT [MQTT-4.12.0-5]. A client that accepts no packet of that length cannot
    /// be authenticated.
    fn send_auth(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: ReasonCode,
        data: &[u8],
        actions: &mut Actions,
    ) {
        let connection = self.connection(id);
        let (version, packet_bytes_max) = (connection.version, connection.packet_bytes_max as usize);
        let method = connection.authentication.as_ref().map(|authentication| authentication.method.clone());
        let properties = AuthProperties {
            authentication_method: method.as_deref(),
            authentication_data: (!data.is_empty()).then_some(data),
            ..Default::default()
        };
        let mut fits = true;
        self.delivery.write(id, actions, |out| {
            let start = out.len();
            Auth { reason, properties }.encode(version, out);
            fits = out.len() - start <= packet_bytes_max;
            if !fits {
                out.truncate(start);
            }
        });
        if !fits {
            self.fail_authentication(now, id, ReasonCode::PacketTooLarge, actions);
        }
    }
}
