//! CONNECT: a client is let in, takes over its session, and is answered; and authentication on the way there.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rules::Names;
use wire::packet::Connect;
use wire::{ProtocolVersion, ReasonCode};

use super::Rooms;
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::time::Instant;
use crate::cause::Cause;
use crate::connection::ack_gate::PendingAck;
use crate::connection::authenticate::{Admitted, Judged, Verdict};
use crate::connection::connect::{
    Acceptance, encode_connack, expiry_interval_s, keep_alive_s, refusal, response_information,
    set_session_present,
};
use crate::connection::{Admission, Close, Connection};
use crate::limits::ClientIdSource;
use crate::memory::Budget;
use crate::message::user_name::UserName;
use crate::publish::Delivery;
use crate::rules_in_force::AccessFault;
use crate::session::Session;
use crate::session::access::Access;
use crate::session::user::UserGrant;
use crate::session::will::Will;
use crate::turn::Turn;

/// The part that a judgement adds to a CONNECT; nothing on a listener that judges nobody.
#[derive(Clone, Copy, Default)]
struct Judgement<'a> {
    /// The method and its last data.
    authenticated: Option<(&'a str, &'a [u8])>,
    /// The client identifier that the client was given before, in place of its own or of none.
    given: Option<&'a str>,
    grant: Option<&'a UserGrant<'a>>,
}

/// Bytes of a client's connection and session, about.
const CLIENT_BYTES: u64 = 4 * 1024;

impl Rooms {
    pub(super) fn on_connect(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        admission: Admission,
        (connect, body): (&Connect<'_>, &[u8]),
        given: Result<Option<Box<str>>, Cause>,
    ) -> Result<(), Close> {
        turn.counters.connects_received += 1;
        self.delivery.connections.current(id).set_limits(connect);
        let is_given = given.as_ref().is_ok_and(Option::is_some);
        if let Some(cause) = self.connect_refusal(turn, id, admission, (connect, is_given)) {
            return Err(self.refuse(turn, id, connect, cause));
        }
        let given = given.map_err(|cause| self.refuse(turn, id, connect, cause))?;
        let listener = self.delivery.connections.current(id).listener();
        let has_method = connect.properties.authentication_method.is_some();
        if !has_method && !turn.limits.of_listener(listener).judged {
            let judgement = Judgement { given: given.as_deref(), ..Judgement::default() };
            return self.accept_connect(turn, id, connect, judgement);
        }
        let assigned = given.or_else(|| connect.client_id.is_empty().then(|| self.assign_client_id().into()));
        let begun = self.delivery.connections.begin_authentication(turn, id, connect, body, assigned);
        begun.map_err(|cause| self.refuse(turn, id, connect, cause))
    }

    /// The host has judged a step of authentication.
    pub(super) fn on_authenticated(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        step: u64,
        verdict: Verdict<'_>,
    ) {
        let verdict = match verdict {
            // Authenticating again never changes the user.
            Verdict::Success { grant, .. } if self.is_another_user(id, grant) => {
                Verdict::Failed(ReasonCode::NotAuthorized)
            }
            verdict => verdict,
        };
        let judged = self.delivery.connections.on_authenticated(turn, id, step, verdict);
        let outcome = match (judged, verdict) {
            (Ok(Judged::Nothing), _) => Ok(()),
            (Ok(Judged::Admit(admitted)), Verdict::Success { data, grant }) => {
                self.admit(turn, id, &admitted, (data, grant))
            }
            (Ok(Judged::Admit(_)), Verdict::Continue(_) | Verdict::Failed(_)) => {
                unreachable!("only success admits")
            }
            (Err(close), _) => Err(close),
        };
        if let Err(close) = outcome {
            self.close(turn, id, &close);
        }
    }

    /// Whether a connection is open for another user than this one.
    fn is_another_user(&self, id: ConnectionId, grant: &UserGrant<'_>) -> bool {
        let Delivery { sessions, connections, .. } = &self.delivery;
        let session = connections.get(id).and_then(Connection::session);
        session.is_some_and(|session| {
            let user = sessions.users().name_of(sessions.user_of(session)).name();
            user != grant.user.unwrap_or_default()
        })
    }

    /// The client that CONNECT named is authenticated: its CONNECT counts from now on.
    fn admit(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        admitted: &Admitted,
        (data, grant): (&[u8], &UserGrant<'_>),
    ) -> Result<(), Close> {
        let connect = Connect::decode(admitted.connect())
            .map_err(|malformed| Close::Authentication(Cause::Malformed(malformed)))?;
        let method = admitted.method();
        assert!(connect.properties.authentication_method == method);
        let is_given = admitted.given().is_some();
        if let Some(cause) = self.connect_refusal(turn, id, Admission::Serve, (&connect, is_given)) {
            return Err(self.refuse(turn, id, &connect, cause));
        }
        let client_id = admitted.given().unwrap_or(connect.client_id);
        let listener = turn.limits.of_listener(self.delivery.connections.current(id).listener());
        // The verdict never renames: a user who is not the one that gave the identifier is refused.
        let is_other_user =
            listener.client_id_source == ClientIdSource::UserName && grant.user != Some(client_id);
        if is_other_user || grant.client_id_must_be.is_some_and(|bound| bound != client_id) {
            return Err(self.refuse(turn, id, &connect, Cause::ClientIdOfAnother));
        }
        let judgement = Judgement {
            authenticated: method.map(|method| (method, data)),
            given: admitted.given(),
            grant: Some(grant),
        };
        self.accept_connect(turn, id, &connect, judgement)?;
        let connections = &mut self.delivery.connections;
        connections.set_grant_end(turn, id, grant.expires_at);
        // Bytes behind CONNECT wait since it is judged.
        connections.end_wait(turn, id);
        Ok(())
    }

    /// The reason to refuse a CONNECT at this moment, if there is one.
    fn connect_refusal(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        admission: Admission,
        (connect, is_given): (&Connect<'_>, bool),
    ) -> Option<Cause> {
        match admission {
            Admission::TurnAway(refused) => Some(refused.cause()),
            Admission::Serve if self.refuses.is_some() => self.refuses,
            Admission::Serve => {
                let over_ceiling = self.refuses_more(turn, Budget::Clients, CLIENT_BYTES);
                let maximum_qos = self.delivery.connections.current(id).maximum_qos();
                refusal(turn.limits, connect, is_given, (maximum_qos, over_ceiling))
            }
        }
    }

    /// Answers a CONNECT that is not accepted [MQTT-3.2.2-7].
    fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        connect: &Connect<'_>,
        cause: Cause,
    ) -> Close {
        self.delivery.connections.refuse_connect(turn, id, connect.version, cause);
        self.note_refusal(turn, id, connect, cause);
        Close::Refused
    }

    /// Lets a client in: the requests of its CONNECT are carried out, and CONNACK says so.
    fn accept_connect(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        connect: &Connect<'_>,
        judgement: Judgement<'_>,
    ) -> Result<(), Close> {
        let Judgement { authenticated, given, grant } = judgement;
        assert!(authenticated.is_some() == connect.properties.authentication_method.is_some());
        let drawn = (connect.client_id.is_empty() && given.is_none()).then(|| self.assign_client_id());
        let given = given.or(drawn.as_deref());
        let client_id = given.unwrap_or(connect.client_id);
        // The property answers an empty identifier alone [MQTT-3.2.2-16].
        let assigned = given.filter(|_| connect.client_id.is_empty());
        let connack = self.connack_of(turn, id, (connect, client_id), (assigned, authenticated));
        let known = self.delivery.sessions.find(client_id);
        let is_full = self.delivery.sessions.len() >= turn.limits.sessions_max;
        if self.pressure.log_room().refuses_connect() && self.awaits_log(turn, connect, known) {
            return Err(self.refuse(turn, id, connect, Cause::NoLog));
        }
        let Some(mut connack) = connack else {
            // Before anything changes: a client that cannot be answered must not take a session over.
            return Err(self.refuse(turn, id, connect, Cause::ConnackTooLong));
        };
        let user = grant.map_or(UserName::NOBODY, |grant| grant.user_name());
        if known.is_some_and(|known| self.is_of_another(turn, known, user)) {
            return Err(self.refuse(turn, id, connect, Cause::SessionOfAnother));
        }
        if known.is_none() && self.pressure.refuses(Budget::Clients) {
            return Err(self.refuse(turn, id, connect, Cause::SessionMemory));
        }
        if is_full && known.is_none() {
            return Err(self.refuse(turn, id, connect, Cause::TooManySessions));
        }
        let access = Self::access_of(turn, (client_id, connect), grant);
        let access = access.map_err(|cause| self.refuse(turn, id, connect, cause))?;
        let old = known.and_then(|known| self.delivery.sessions.get(known)?.connection());
        if old.is_some_and(|old| self.is_older(id, old, turn.now)) {
            return Err(self.refuse(turn, id, connect, Cause::Superseded));
        }

        // The old connection is sent 0x8E before its session changes hands [MQTT-3.1.4-3].
        if let Some(old) = old {
            turn.counters.take_overs += 1;
            self.close(turn, old, &Close::Told(Cause::TakenOver(id)));
        }
        // It may have ended with that connection.
        let known = known.filter(|_| self.delivery.sessions.find(client_id) == known);
        let discarded = known.filter(|_| connect.clean_start).map(|known| self.discard(turn, known));
        let has_credentials = connect.user_name.is_some() || connect.password.is_some();
        turn.counters.credentials_ignored += u64::from(has_credentials && grant.is_none());
        let present = known.filter(|_| discarded.is_none());
        assert!(present.is_none() || !connect.clean_start);
        let session = present.unwrap_or_else(|| self.delivery.sessions.create(client_id));
        self.attach(turn, id, (session, grant), connect);
        self.delivery.sessions.set_user(session, user);
        self.delivery.sessions.set_access(session, access);
        self.note_connected(turn, id, connect, client_id, present.is_some());
        let recorded = self.record_connected(turn, session);
        let must_persist =
            recorded.map_or(discarded.is_some(), |recorded| recorded || discarded == Some(true));

        // 3.1 has no such flag: the byte is reserved there.
        if present.is_some() && connect.version != ProtocolVersion::V3_1 {
            set_session_present(&mut connack);
        }
        let ack = PendingAck::ConnAck(connack.into_boxed_slice());
        self.delivery.connections.acknowledge(turn, id, ack, must_persist);
        Ok(())
    }

    /// Whether the CONNACK of a client would wait for the log: its session outlives its connection or did before, or it has a will.
    fn awaits_log(&self, turn: &Turn<'_>, connect: &Connect<'_>, known: Option<SessionId>) -> bool {
        let known = known.and_then(|known| self.delivery.sessions.get(known)?.number());
        known.is_some() || connect.will.is_some() || expiry_interval_s(turn.limits, connect) > 0
    }

    /// Ends a session that its client does not want any more. Returns whether the log has it.
    fn discard(&mut self, turn: &mut Turn<'_>, id: SessionId) -> bool {
        let is_recorded = self.delivery.sessions.get(id).and_then(Session::number).is_some();
        self.end_session(turn, id);
        is_recorded
    }

    /// The CONNACK of a client that is let in; `None` if it accepts no packet of that length.
    fn connack_of(
        &mut self,
        turn: &Turn<'_>,
        id: ConnectionId,
        (connect, client_id): (&Connect<'_>, &str),
        (assigned, authenticated): (Option<&str>, Option<(&str, &[u8])>),
    ) -> Option<Vec<u8>> {
        let shard = turn.limits.tell_shard.then(|| format!("{}", self.mesh.placement().own()));
        let information = response_information(turn.limits, connect, client_id);
        let acceptance = Acceptance::new(assigned, authenticated, shard.as_deref(), information.as_deref());
        let connection = self.delivery.connections.current(id);
        let (listener, bytes_max) = (connection.listener(), connection.packet_bytes_max());
        let acceptance = acceptance.telling((turn.limits, listener), connect);
        encode_connack((turn.limits, listener), connect, &acceptance, bytes_max)
    }

    /// The user of a client and its standing before the rules; `None` for nobody without rules.
    fn access_of(
        turn: &Turn<'_>,
        (client_id, connect): (&str, &Connect<'_>),
        grant: Option<&UserGrant<'_>>,
    ) -> Result<Option<Box<Access>>, Cause> {
        let grant = grant.unwrap_or(&UserGrant::NOBODY);
        let Some(rules) = turn.rules() else { return Ok(Access::of_user(grant.user, grant.is_listed)) };
        let names = Names { client_id, user: grant.user.unwrap_or_default() };
        let standing = rules.admit(names, grant.roles).map_err(|fault| match fault {
            AccessFault::Roles(_) => Cause::RolesForbidden,
            AccessFault::Name(_) => Cause::NameForbidden,
        })?;
        let will = connect.will.as_ref();
        if will.is_some_and(|will| !rules.may_publish(standing, names, will.topic.as_str())) {
            return Err(Cause::WillForbidden);
        }
        Ok(Some(Box::new(Access::new(names.user, standing, grant.is_listed))))
    }

    /// Whether a connection came before another one.
    fn is_older(&self, id: ConnectionId, other: ConnectionId, now: Instant) -> bool {
        let connections = &self.delivery.connections;
        let both = connections.get(id).zip(connections.get(other));
        both.is_some_and(|(connection, other)| connection.is_older_than(other, now))
    }

    /// Binds a connection and a session to each other under the terms of CONNECT.
    fn attach(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        (session, grant): (SessionId, Option<&UserGrant<'_>>),
        connect: &Connect<'_>,
    ) {
        let expiry_interval_s = expiry_interval_s(turn.limits, connect);
        let will = connect.will.as_ref().map(|will| Box::new(Will::new(will)));
        self.delivery.sessions.attach(turn, session, id, expiry_interval_s, will);
        let connections = &mut self.delivery.connections;
        connections.begin_accepting(turn.limits, id, session);
        if let Some(session) = self.delivery.sessions.get(session) {
            let user = grant.and_then(|grant| grant.user);
            connections.begin_metering(turn, id, (session.client_id(), user.unwrap_or_default()));
        }
        connections.set_quota(turn.limits, id, connect);
        connections.begin_keep_alive(turn, id, keep_alive_s(turn.limits, connect));
        assert!(connections.current(id).session() == Some(session));
        assert!(self.delivery.sessions.of_connection(session).connection() == Some(id));
    }

    /// A client identifier that no session has [MQTT-3.2.2-16]. Without the key it cannot be guessed.
    fn assign_client_id(&mut self) -> String {
        let placement = self.mesh.placement();
        loop {
            self.assigned_count += 1;
            let hash = self.hasher.pair(u32::MAX, self.assigned_count);
            let client_id = format!("auto-{hash:016x}");
            // It lives on the shard that accepted it, so that it need not be handed over.
            let at_home = placement.home_of_client(&client_id) == placement.own();
            if at_home && self.delivery.sessions.find(&client_id).is_none() {
                return client_id;
            }
        }
    }

    /// CONNACK is out: the pending messages of the session may follow.
    pub(super) fn on_opened(&mut self, turn: &mut Turn<'_>, session: SessionId) {
        self.members_changed(turn, session);
        self.delivery.deliver_pending(turn, session);
        self.retained.schedule(&mut self.delivery.sessions, session);
    }
}
