//! The judgement of a client: of its CONNECT alone, or in the exchange of enhanced authentication [4.12] that CONNECT begins
//! and AUTH repeats on an open connection.
//!
//! The engine keeps the exchange; the host knows the methods and judges each step. Invariants: nothing of a CONNECT counts before
//! its verdict; a connection has at most one step that waits for the host; the table counts the bytes that all exchanges hold, so
//! every change of one goes through one function.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use wire::packet::{Auth, AuthProperties, Connect};
use wire::{PacketType, ReasonCode};

use super::bounded_write::append_bounded;
use super::{Close, Connections, Phase};
use crate::action::Action;
use crate::base::heap;
use crate::base::ids::ConnectionId;
use crate::base::secret::Secret;
use crate::cause::Cause;
use crate::limits::Limits;
use crate::session::user::UserGrant;
use crate::turn::Turn;

/// One step of a client, for the host to judge. Its `Debug` form has neither password nor data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationStep<'a> {
    /// CONNECT without a method, on a listener that judges its clients.
    Basic {
        /// The identifier that the client has, or is given.
        client_id: &'a str,
        /// The user name.
        username: Option<&'a str>,
        /// The password; any bytes.
        password: Option<&'a [u8]>,
        /// The number of the listener, as [`crate::Engine::accept`] was told.
        listener: u16,
    },
    /// A step of enhanced authentication.
    Exchange {
        /// One of `Limits::authentication_methods`.
        method: &'a str,
        /// Data of that method, at most `Limits::authentication_bytes_max` bytes; no data and empty data are one.
        data: &'a [u8],
        /// Whether an exchange begins with it: CONNECT, or the request to repeat it [MQTT-4.12.1-1].
        begins: bool,
        /// The client identifier, given or its own; `None` on an open connection, where it is known already.
        client_id: Option<&'a str>,
        /// The user name of CONNECT; `None` on an open connection.
        username: Option<&'a str>,
        /// The number of the listener.
        listener: u16,
    },
}

impl fmt::Debug for AuthenticationStep<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { client_id, username, listener, .. } => formatter
                .debug_struct("Basic")
                .field("client_id", client_id)
                .field("username", username)
                .field("listener", listener)
                .finish_non_exhaustive(),
            Self::Exchange { method, begins, client_id, username, listener, .. } => formatter
                .debug_struct("Exchange")
                .field("method", method)
                .field("begins", begins)
                .field("client_id", client_id)
                .field("username", username)
                .field("listener", listener)
                .finish_non_exhaustive(),
        }
    }
}

/// The verdict of the host on a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// The client is sent this and has to answer it. Of a CONNECT without a method there is no next step: it is a refusal with
    /// 0x87.
    Continue(&'a [u8]),
    /// The client is authenticated.
    Success {
        /// It is sent this last. Nothing without a method.
        data: &'a [u8],
        /// The user that it is, and the roles that it has.
        grant: &'a UserGrant<'a>,
    },
    /// The client is not: it is sent the reason and closed. A reason that CONNACK, or DISCONNECT of an open connection, does not
    /// know becomes 0x87.
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

/// **Lives on:** a connection whose CONNECT named a method, or is being judged.
#[derive(Debug)]
pub(super) struct Authentication {
    /// Empty without a method.
    method: Box<str>,
    /// The body of CONNECT until the client is authenticated: nothing of it counts before. Empty afterwards.
    connect: Secret,
    /// The client identifier that the client was given, in place of its own or of none.
    given: Option<Box<str>>,
    /// The data of the client until the host has judged it. Bounded by `Limits::authentication_bytes_max`.
    data: Secret,
    awaiting: Awaiting,
    /// Bytes behind a CONNECT that is judged, which the host keeps. Bounded by what it receives at once.
    waiting_bytes: u32,
}

impl Authentication {
    pub(super) fn bytes_held(&self) -> u64 {
        let given = self.given.as_ref().map_or(0, |given| given.len());
        let parts = [self.method.len(), self.connect.len(), self.data.len(), given];
        heap::block(size_of::<Self>()) + parts.into_iter().map(heap::block).sum::<u64>()
    }

    /// Bytes held for a client without a verdict, here and by the host.
    pub(super) fn unjudged_bytes(&self) -> u64 {
        self.bytes_held() + u64::from(self.waiting_bytes)
    }

    /// The step for the host, on a connection of `listener`.
    fn step(&self, begins: bool, listener: u16) -> Option<AuthenticationStep<'_>> {
        // An open connection has no CONNECT any more.
        let connect = Connect::decode(&self.connect).ok();
        let username = connect.and_then(|connect| connect.user_name);
        let own_id = connect.map(|connect| connect.client_id);
        let client_id = self.given.as_deref().or(own_id);
        if self.method.is_empty() {
            let password = connect?.password;
            return Some(AuthenticationStep::Basic { client_id: client_id?, username, password, listener });
        }
        let (method, data) = (&*self.method, &*self.data);
        Some(AuthenticationStep::Exchange { method, data, begins, client_id, username, listener })
    }
}

/// The consequence of a verdict for the host's engine.
#[derive(Debug)]
pub(crate) enum Judged {
    /// None: AUTH was sent, or the verdict was stale.
    Nothing,
    /// The client of this CONNECT is authenticated.
    Admit(Admitted),
}

/// A client that is authenticated and not let in yet.
#[derive(Debug)]
pub(crate) struct Admitted {
    connect: Secret,
    /// Empty without one.
    method: Box<str>,
    given: Option<Box<str>>,
}

impl Admitted {
    /// The body of its CONNECT.
    pub(crate) fn connect(&self) -> &[u8] {
        &self.connect
    }

    /// The method that authenticated it, if it was one.
    pub(crate) fn method(&self) -> Option<&str> {
        Some(&*self.method).filter(|method| !method.is_empty())
    }

    /// The client identifier that it was given.
    pub(crate) fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }
}

impl Connections {
    /// Asks the host about a CONNECT: the first step of its method if it names one, which the host knows, or CONNECT alone.
    ///
    /// # Errors
    /// The client sent more than `Limits::authentication_bytes_max`.
    pub(crate) fn begin_authentication(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        connect: &Connect<'_>,
        body: &[u8],
        given: Option<Box<str>>,
    ) -> Result<(), Cause> {
        let method = connect.properties.authentication_method;
        let phase = if method.is_some() { Phase::Authenticating } else { Phase::Judging };
        // Without a method there is no such data [MQTT-3.1.2-30].
        let data = connect.properties.authentication_data.filter(|_| method.is_some()).unwrap_or_default();
        let method = method.unwrap_or_default();
        if exceeds_data_limit(turn.limits, method, data) {
            return Err(Cause::AuthenticationBytes);
        }
        assert!(given.is_some() || !connect.client_id.is_empty());
        let authentication = Box::new(Authentication {
            method: method.into(),
            connect: body.into(),
            given,
            data: Secret::default(),
            awaiting: Awaiting::Nobody,
            waiting_bytes: 0,
        });
        self.authentication_bytes += authentication.bytes_held();
        let found = self.change_unjudged(id, |connection| {
            assert!(connection.authentication.is_none());
            assert!(matches!(connection.phase, Phase::Fresh(_)));
            connection.phase = phase;
            connection.authentication = Some(authentication);
        });
        assert!(found.is_some());
        self.request_verdict(turn, id, data, true);
        Ok(())
    }

    /// Counts bytes behind a CONNECT that is judged. The host keeps them and receives no more until they are consumed.
    pub(crate) fn count_waiting(&mut self, id: ConnectionId, bytes: usize) {
        if self.get(id).is_some_and(|connection| connection.phase == Phase::Judging) {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.change_authentication(id, |authentication| authentication.waiting_bytes = bytes);
        }
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
        let connection = self.get(id)?;
        let authentication = connection.authentication.as_ref()?;
        match authentication.awaiting {
            Awaiting::Host { step: awaited, begins } if awaited == step => {
                authentication.step(begins, connection.listener())
            }
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
        let is_judging = self.current(id).phase == Phase::Judging;
        let verdict = match verdict {
            // Without a method there is no AUTH [MQTT-4.12.0-7].
            Verdict::Continue(_) if is_judging => Verdict::Failed(ReasonCode::NotAuthorized),
            verdict => verdict,
        };
        let awaiting = match verdict {
            Verdict::Continue(_) => Awaiting::Client,
            Verdict::Success { .. } | Verdict::Failed(_) => Awaiting::Nobody,
        };
        self.change_authentication(id, |authentication| {
            authentication.data = Secret::default();
            authentication.awaiting = awaiting;
        });
        match verdict {
            Verdict::Continue(data) => {
                self.send_auth(turn, id, ReasonCode::ContinueAuthentication, data)?;
                Ok(Judged::Nothing)
            }
            Verdict::Success { .. } if is_judging => Ok(Judged::Admit(self.end_judging(id))),
            Verdict::Success { data, grant } => match self.current(id).phase {
                Phase::Authenticating => Ok(Judged::Admit(self.end_exchange(id))),
                Phase::Open(_) => {
                    self.send_auth(turn, id, ReasonCode::Success, data)?;
                    self.set_grant_end(turn, id, grant.expires_at);
                    Ok(Judged::Nothing)
                }
                Phase::Fresh(_)
                | Phase::Judging
                | Phase::Accepting(_)
                | Phase::HandingOver
                | Phase::Closing => {
                    unreachable!("no step is due in this phase")
                }
            },
            Verdict::Failed(ReasonCode::Banned) if !self.current(id).is_open() => {
                Err(Close::Authentication(Cause::Banned))
            }
            Verdict::Failed(reason) => {
                turn.counters.authentications_failed += 1;
                let told_in =
                    if self.current(id).is_open() { PacketType::Disconnect } else { PacketType::ConnAck };
                let is_known = reason.is_error() && reason.is_allowed_in(told_in);
                let reason = if is_known { reason } else { ReasonCode::NotAuthorized };
                Err(Close::Authentication(Cause::AuthenticationFailed(reason)))
            }
        }
    }

    /// A CONNECT without a method has its verdict: nothing of the judgement is kept.
    fn end_judging(&mut self, id: ConnectionId) -> Admitted {
        let taken = self.change_unjudged(id, |connection| connection.authentication.take()).flatten();
        let Some(authentication) = taken else { unreachable!("a verdict is about an authentication") };
        assert!(self.authentication_bytes >= authentication.bytes_held());
        self.authentication_bytes -= authentication.bytes_held();
        let Authentication { method, connect, given, .. } = *authentication;
        assert!(method.is_empty() && !connect.is_empty());
        Admitted { connect, method, given }
    }

    /// An exchange before CONNACK has succeeded. Its method is kept, because the client may repeat it.
    fn end_exchange(&mut self, id: ConnectionId) -> Admitted {
        let mut admitted = Admitted { connect: Secret::default(), method: Box::default(), given: None };
        self.change_authentication(id, |authentication| {
            admitted.connect = core::mem::take(&mut authentication.connect);
            admitted.given = authentication.given.take();
            admitted.method = authentication.method.clone();
        });
        assert!(!admitted.connect.is_empty() && !admitted.method.is_empty());
        admitted
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
