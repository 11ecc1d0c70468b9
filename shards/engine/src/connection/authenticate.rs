//! Enhanced authentication [4.12]: the exchange that CONNECT begins, and the one that repeats it on an open connection.
//!
//! The engine keeps the exchange; the host knows the methods and judges each step. Invariant: the table counts the bytes
//! that all exchanges hold, so every change of one goes through one function.

use alloc::boxed::Box;
use alloc::vec::Vec;

use wire::packet::{Auth, AuthProperties, Connect};
use wire::{PacketType, ReasonCode};

use super::bounded_write::append_bounded;
use super::{Close, Connections, Phase};
use crate::action::Action;
use crate::base::heap;
use crate::base::ids::ConnectionId;
use crate::cause::Cause;
use crate::limits::Limits;
use crate::turn::Turn;

/// One step of a client, for the host to judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthenticationStep<'a> {
    /// One of `Limits::authentication_methods`.
    pub method: &'a str,
    /// Data of that method, at most `Limits::authentication_bytes_max` bytes; no data and empty data are one.
    pub data: &'a [u8],
    /// Whether an exchange begins with it: CONNECT, or the request to repeat it [MQTT-4.12.1-1].
    pub begins: bool,
}

/// The verdict of the host on a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// The client is sent this and has to answer it.
    Continue(&'a [u8]),
    /// The client is authenticated; it is sent this last.
    Success(&'a [u8]),
    /// The client is not: it is sent the reason and closed. A reason that CONNACK and DISCONNECT do not both know
    /// becomes 0x87.
    Failed(ReasonCode),
}

/// The party whose word is due in an exchange.
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
pub(super) struct Authentication {
    method: Box<str>,
    /// The body of CONNECT until the client is authenticated: nothing of it counts before. Empty afterwards.
    connect: Box<[u8]>,
    /// The data of the client until the host has judged it. Bounded by `Limits::authentication_bytes_max`.
    data: Box<[u8]>,
    awaiting: Awaiting,
}

impl Authentication {
    pub(super) fn bytes_held(&self) -> u64 {
        let parts = [self.method.len(), self.connect.len(), self.data.len()];
        heap::block(size_of::<Self>()) + parts.into_iter().map(heap::block).sum::<u64>()
    }
}

/// The consequence of a verdict for the host's engine.
#[derive(Debug)]
pub(crate) enum Judged {
    /// None: AUTH was sent, or the verdict was stale.
    Nothing,
    /// The client of this CONNECT is authenticated by this method.
    Admit { connect: Box<[u8]>, method: Box<str> },
}

impl Connections {
    /// Begins the exchange of a CONNECT that named a method which the host knows.
    ///
    /// # Errors
    /// The client sent more than `Limits::authentication_bytes_max`.
    pub(crate) fn begin_authentication(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        connect: &Connect<'_>,
        body: &[u8],
    ) -> Result<(), Cause> {
        let method = connect.properties.authentication_method.unwrap_or_default();
        let data = connect.properties.authentication_data.unwrap_or_default();
        if exceeds_data_limit(turn.limits, method, data) {
            return Err(Cause::AuthenticationBytes);
        }
        let authentication = Box::new(Authentication {
            method: method.into(),
            connect: body.into(),
            data: Box::default(),
            awaiting: Awaiting::Nobody,
        });
        self.authentication_bytes += authentication.bytes_held();
        let found = self.change_unjudged(id, |connection| {
            assert!(connection.authentication.is_none());
            assert!(matches!(connection.phase, Phase::Fresh(_)));
            connection.phase = Phase::Authenticating;
            connection.authentication = Some(authentication);
        });
        assert!(found.is_some());
        self.request_verdict(turn, id, data, true);
        Ok(())
    }

    /// AUTH from a client. Before CONNACK only AUTH and DISCONNECT may come [MQTT-3.1.2-30].
    pub(crate) fn on_auth(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        auth: &Auth<'_>,
    ) -> Result<(), Close> {
        let connection = self.current(id);
        let is_open = connection.is_open();
        // Without a method in CONNECT there is no AUTH [MQTT-4.12.0-7], and the method stays the same [MQTT-4.12.0-5].
        let method = auth.properties.authentication_method;
        let known = connection.authentication.as_ref().filter(|known| method == Some(&*known.method));
        let begins = match (known.map(|known| known.awaiting), auth.reason) {
            (Some(Awaiting::Client), ReasonCode::ContinueAuthentication) => false,
            (Some(Awaiting::Nobody), ReasonCode::ReAuthenticate) if is_open => true,
            _ => {
                return Err(Close::Authentication(Cause::UnexpectedAuth));
            }
        };
        let data = auth.properties.authentication_data.unwrap_or_default();
        if exceeds_data_limit(turn.limits, "", data) {
            return Err(Close::Authentication(Cause::AuthenticationBytes));
        }
        self.request_verdict(turn, id, data, begins);
        Ok(())
    }

    /// The step that [`Action::Authenticate`] named; `None` once it was judged or the connection has ended.
    pub(crate) fn authentication_step(&self, id: ConnectionId, step: u64) -> Option<AuthenticationStep<'_>> {
        let authentication = self.get(id)?.authentication.as_ref()?;
        match authentication.awaiting {
            Awaiting::Host { step: awaited, begins } if awaited == step => Some(AuthenticationStep {
                method: &authentication.method,
                data: &authentication.data,
                begins,
            }),
            Awaiting::Host { .. } | Awaiting::Client | Awaiting::Nobody => None,
        }
    }

    /// The body of the CONNECT whose client is not authenticated yet; `None` if there is no such exchange.
    pub(crate) fn connect_under_way(&self, id: ConnectionId) -> Option<&[u8]> {
        let authentication = self.get(id)?.authentication.as_ref()?;
        (!authentication.connect.is_empty()).then_some(&authentication.connect)
    }

    /// The host has judged a step. A verdict on any step but the one that is due is counted and ignored.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub(crate) fn on_authenticated(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        step: u64,
        verdict: Verdict<'_>,
    ) -> Result<Judged, Close> {
        if self.authentication_step(id, step).is_none() {
            turn.counters.stale += 1;
            return Ok(Judged::Nothing);
        }
        let awaiting = match verdict {
            Verdict::Continue(_) => Awaiting::Client,
            Verdict::Success(_) | Verdict::Failed(_) => Awaiting::Nobody,
        };
        self.change_authentication(id, |authentication| {
            authentication.data = Box::default();
            authentication.awaiting = awaiting;
        });
        match verdict {
            Verdict::Continue(data) => {
                self.send_auth(turn, id, ReasonCode::ContinueAuthentication, data)?;
                Ok(Judged::Nothing)
            }
            Verdict::Success(data) => match self.current(id).phase {
                Phase::Authenticating => {
                    let (mut connect, mut method) = (Box::default(), Box::default());
                    self.change_authentication(id, |authentication| {
                        connect = core::mem::take(&mut authentication.connect);
                        method = authentication.method.clone();
                    });
                    assert!(!connect.is_empty());
                    Ok(Judged::Admit { connect, method })
                }
                Phase::Open(_) => {
                    self.send_auth(turn, id, ReasonCode::Success, data)?;
                    Ok(Judged::Nothing)
                }
                Phase::Fresh(_) | Phase::Accepting(_) | Phase::HandingOver | Phase::Closing => {
                    unreachable!("no step is due in this phase")
                }
            },
            Verdict::Failed(reason) => {
                turn.counters.authentications_failed += 1;
                let is_known = [PacketType::ConnAck, PacketType::Disconnect]
                    .into_iter()
                    .all(|packet_type| reason.is_error() && reason.is_allowed_in(packet_type));
                let reason = if is_known { reason } else { ReasonCode::NotAuthorized };
                Err(Close::Authentication(Cause::AuthenticationFailed(reason)))
            }
        }
    }

    fn request_verdict(&mut self, turn: &mut Turn<'_>, id: ConnectionId, data: &[u8], begins: bool) {
        self.authentication_steps += 1;
        let step = self.authentication_steps;
        self.change_authentication(id, |authentication| {
            assert!(!matches!(authentication.awaiting, Awaiting::Host { .. }));
            authentication.data = data.into();
            authentication.awaiting = Awaiting::Host { step, begins };
        });
        turn.actions.push(Action::Authenticate { connection: id, step });
    }

    fn change_authentication(&mut self, id: ConnectionId, change: impl FnOnce(&mut Authentication)) {
        let changed = self.change_unjudged(id, |connection| {
            let authentication = connection.authentication.as_mut()?;
            let before = authentication.bytes_held();
            change(authentication);
            Some((before, authentication.bytes_held()))
        });
        let Some((before, after)) = changed.flatten() else { return };
        self.authentication_bytes += after;
        assert!(self.authentication_bytes >= before);
        self.authentication_bytes -= before;
    }

    /// Sends AUTH with the method of CONNECT [MQTT-4.12.0-5]. A client that does not accept a packet of that length cannot
    /// be authenticated.
    fn send_auth(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        reason: ReasonCode,
        data: &[u8],
    ) -> Result<(), Close> {
        let connection = self.current(id);
        let (version, bytes_max) = (connection.version, connection.packet_bytes_max);
        let method = connection.authentication.as_ref().map(|authentication| &*authentication.method);
        assert!(method.is_some());
        let properties = AuthProperties {
            authentication_method: method,
            authentication_data: (!data.is_empty()).then_some(data),
            ..Default::default()
        };
        let mut bytes = Vec::new();
        let fits = append_bounded(&mut bytes, bytes_max, &[properties], |properties, out| {
            Auth { reason, properties: *properties }.encode(version, out);
        });
        if !fits {
            return Err(Close::Authentication(Cause::AnswerTooLong));
        }
        self.write(turn, id, |out| out.extend_from_slice(&bytes));
        Ok(())
    }
}

fn exceeds_data_limit(limits: &Limits, method: &str, data: &[u8]) -> bool {
    method.len() + data.len() > usize::from(limits.authentication_bytes_max)
}
