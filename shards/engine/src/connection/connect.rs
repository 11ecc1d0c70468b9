//! CONNECT: whether it is accepted, which session it gets, what CONNACK says.
//! Knows no socket and no method of authentication; `authentication` asks the host.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};

use wire::packet::{ConnAck, ConnAckProperties, Connect, UserProperties};
use wire::{Malformed, PACKET_BYTES_MAX, ProtocolVersion, QoS, ReasonCode};

use crate::base::time::Instant;
use crate::connection::ack_gate::PendingAck;
use crate::connection::table::{Admission, ConnectionId, Phase};
use crate::connection::topic_alias::OutgoingAliases;
use crate::engine::Engine;
use crate::event::Actions;
use crate::limits::Redirect;
use crate::publish::sys::is_sys;
use crate::session::table::{NEVER_S, Session, SessionId};
use crate::session::will::Will;

impl Engine {
    pub(crate) fn on_connect(
        &mut self,
        now: Instant,
        id: ConnectionId,
        admission: Admission,
        connect: &Connect<'_>,
        body: &[u8],
        actions: &mut Actions,
    ) {
        self.delivery.counters.connects_received += 1;
        let connection = self.connection(id);
        connection.version = connect.version;
        let packet_bytes_max = connect.properties.packet_bytes_max.map_or(PACKET_BYTES_MAX, NonZeroU32::get);
        connection.packet_bytes_max = packet_bytes_max.min(PACKET_BYTES_MAX);
        connection.problem_information = connect.properties.request_problem_information.unwrap_or(true);
        if let Some(reason) = self.connect_refusal(admission, connect) {
            self.refuse_connect(now, id, connect.version, reason, None, actions);
            return;
        }
        match connect.properties.authentication_method {
            Some(method) => self.begin_authentication(now, id, method, connect, body, actions),
            None => self.accept_connect(now, id, connect, None, actions),
        }
    }

    /// Why a CONNECT is refused at this moment, if it is.
    pub(crate) fn connect_refusal(&self, admission: Admission, connect: &Connect<'_>) -> Option<ReasonCode> {
        match admission {
            Admission::TurnAway => Some(ReasonCode::QuotaExceeded),
            Admission::Serve if self.stopping => Some(self.stop_reason(ReasonCode::ServerUnavailable)),
            Admission::Serve => self.refusal(connect),
        }
    }

    /// Lets a client in: what CONNECT asks for happens, and CONNACK says so. `authenticated` are the method and
    /// its last data [MQTT-4.12.0-5].
    pub(crate) fn accept_connect(
        &mut self,
        now: Instant,
        id: ConnectionId,
        connect: &Connect<'_>,
        authenticated: Option<(&str, &[u8])>,
        actions: &mut Actions,
    ) {
        let packet_bytes_max = self.connection(id).packet_bytes_max;
        let assigned = connect.client_id.is_empty().then(|| self.assign_client_id());
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let shard = self.delivery.limits.tell_shard.then(|| format!("{}", self.mesh.placement.own));
        let told = [("shard", shard.as_deref().unwrap_or_default())];
        let response_information = self.response_information(connect, client_id);
        let mut connack = self.connack(connect, assigned.as_deref(), &told);
        connack.properties.response_information = response_information.as_deref();
        if let Some((method, data)) = authenticated {
            connack.properties.authentication_method = Some(method);
            connack.properties.authentication_data = (!data.is_empty()).then_some(data);
        }
        let mut bytes = Vec::new();
        connack.encode(connect.version, &mut bytes);
        if bytes.len() > packet_bytes_max as usize && !connack.properties.user_properties.is_empty() {
            // Nobody is turned away for what he can do without [MQTT-3.2.2-20].
            connack.properties.user_properties = UserProperties::from_pairs(&[]);
            bytes.clear();
            connack.encode(connect.version, &mut bytes);
        }
        if bytes.len() > packet_bytes_max as usize {
            // Before anything changes: a client that can never be told so must not take a session over.
            let reason = ReasonCode::ImplementationSpecificError;
            self.refuse_connect(now, id, connect.version, reason, None, actions);
            return;
        }
        let sessions_full = self.delivery.sessions.len() >= self.delivery.limits.sessions_max;
        if sessions_full && self.session_of(client_id).is_none() {
            self.refuse_connect(now, id, connect.version, ReasonCode::QuotaExceeded, None, actions);
            return;
        }

        // The old connection is told 0x8E before its session changes hands [MQTT-3.1.4-3].
        if let Some(session) = self.session_of(client_id)
            && let Some(old) = self.delivery.sessions.get(session.0).and_then(|session| session.connection)
        {
            self.delivery.counters.take_overs += 1;
            self.close(now, old, Some(ReasonCode::SessionTakenOver), actions);
        }
        let mut must_persist = false;
        if connect.clean_start
            && let Some(session) = self.session_of(client_id)
        {
            must_persist = true;
            self.end_session(now, session, actions);
        }
        let present = self.session_of(client_id);
        let session = present.unwrap_or_else(|| self.new_session(client_id));
        self.attach(now, id, session, connect);

        // 3.1 has no such flag: the byte is reserved there.
        connack.session_present = present.is_some() && connect.version != ProtocolVersion::V3_1;
        bytes.clear();
        connack.encode(connect.version, &mut bytes);
        let bytes = bytes.into_boxed_slice();
        self.connection(id).phase = Phase::Accepting(session);
        self.acknowledge(now, id, PendingAck::ConnAck(bytes), must_persist, actions);
    }

    /// Why a well-formed CONNECT is refused, if it is.
    fn refusal(&self, connect: &Connect<'_>) -> Option<ReasonCode> {
        let limits = &self.delivery.limits;
        match limits.redirect {
            Redirect::Off => {}
            Redirect::UseAnother => return Some(ReasonCode::UseAnotherServer),
            Redirect::Moved => return Some(ReasonCode::ServerMoved),
        }
        let method = connect.properties.authentication_method;
        if method.is_some_and(|method| !limits.authentication_methods.iter().any(|known| **known == *method))
        {
            // [MQTT-4.12.0-1]
            return Some(ReasonCode::BadAuthenticationMethod);
        }
        if connect.client_id.len() > usize::from(limits.client_id_bytes_max) {
            return Some(ReasonCode::ClientIdentifierNotValid);
        }
        let may_be_assigned = match connect.version {
            _ if !limits.assigned_client_ids => false,
            ProtocolVersion::V3_1 => false,
            // Without clean session an assigned identifier could never be resumed.
            ProtocolVersion::V3_1_1 => connect.clean_start,
            ProtocolVersion::V5 => true,
        };
        if connect.client_id.is_empty() && !may_be_assigned {
            return Some(ReasonCode::ClientIdentifierNotValid);
        }
        connect.will.as_ref().and_then(|will| self.will_refusal(will))
    }

    fn will_refusal(&self, will: &wire::Will<'_>) -> Option<ReasonCode> {
        let limits = &self.delivery.limits;
        if is_sys(will.topic.as_str()) {
            return Some(ReasonCode::NotAuthorized);
        }
        if will.topic.levels().count() > usize::from(limits.topic_levels_max) {
            return Some(ReasonCode::TopicNameInvalid);
        }
        if self.delivery.is_over_memory_ceiling() {
            return Some(ReasonCode::QuotaExceeded);
        }
        if will.qos > limits.maximum_qos {
            // [MQTT-3.2.2-12]
            return Some(ReasonCode::QoSNotSupported);
        }
        if will.retain && !limits.retain_available {
            // [MQTT-3.2.2-13]
            return Some(ReasonCode::RetainNotSupported);
        }
        if !self.has_valid_payload_format(will.properties.payload_format_utf8, will.payload) {
            return Some(ReasonCode::PayloadFormatInvalid);
        }
        None
    }

    /// Whether a payload is what its Payload Format Indicator says, where that is to be checked.
    pub(crate) fn has_valid_payload_format(&self, utf8: Option<bool>, payload: &[u8]) -> bool {
        let is_checked = self.delivery.limits.check_payload_format && utf8 == Some(true);
        !is_checked || core::str::from_utf8(payload).is_ok()
    }

    /// Answers a CONNECT that is not accepted and closes [MQTT-3.2.2-7].
    pub(crate) fn refuse_connect(
        &mut self,
        now: Instant,
        id: ConnectionId,
        version: ProtocolVersion,
        reason: ReasonCode,
        told: Option<&str>,
        actions: &mut Actions,
    ) {
        let server_reference = self.server_reference(reason);
        let packet_bytes_max = self.connection(id).packet_bytes_max as usize;
        let mut bytes = Vec::new();
        // Words and references only where they fit; it may be that not even the reason can be told [MQTT-3.1.2-24].
        for properties in [
            ConnAckProperties {
                reason_string: told,
                server_reference: server_reference.as_deref(),
                ..Default::default()
            },
            ConnAckProperties { server_reference: server_reference.as_deref(), ..Default::default() },
            ConnAckProperties::default(),
        ] {
            bytes.clear();
            ConnAck { session_present: false, reason, properties }.encode(version, &mut bytes);
            if bytes.len() <= packet_bytes_max {
                self.delivery.write(id, actions, |out| out.extend_from_slice(&bytes));
                break;
            }
        }
        self.close(now, id, None, actions);
    }

    /// The first packet could not be read. Only an unknown protocol level is worth an answer, in the
    /// form its sender may understand [MQTT-3.1.2-2]; whoever else it is may not speak MQTT.
    pub(crate) fn refuse_malformed_connect(
        &mut self,
        now: Instant,
        id: ConnectionId,
        malformed: Malformed,
        actions: &mut Actions,
    ) {
        match malformed {
            Malformed::UnsupportedProtocolVersion { level } => {
                let version = if level > ProtocolVersion::V5.level() {
                    ProtocolVersion::V5
                } else {
                    ProtocolVersion::V3_1_1
                };
                let told = format!("{malformed}");
                self.refuse_connect(now, id, version, malformed.reason(), Some(&told), actions);
            }
            _ => self.close(now, id, None, actions),
        }
    }

    pub(crate) fn session_of(&self, client_id: &str) -> Option<SessionId> {
        let sessions = &self.delivery.sessions;
        self.by_client
            .find(self.delivery.hasher.bytes(client_id.as_bytes()), |&index| {
                sessions.at(index).is_some_and(|session| *session.client_id == *client_id)
            })
            .and_then(|&index| sessions.key_at(index))
            .map(SessionId)
    }

    pub(crate) fn new_session(&mut self, client_id: &str) -> SessionId {
        let id = SessionId(self.delivery.sessions.insert(Session::new(client_id.into())));
        let (sessions, hasher) = (&self.delivery.sessions, self.delivery.hasher);
        self.by_client.insert_unique(hasher.bytes(client_id.as_bytes()), id.0.index(), |&other| {
            let other = sessions.at(other).expect("the table names live sessions only");
            hasher.bytes(other.client_id.as_bytes())
        });
        id
    }

    /// A client identifier that nobody uses [MQTT-3.2.2-16]; it cannot be guessed without the key.
    fn assign_client_id(&mut self) -> String {
        loop {
            self.assigned_count += 1;
            let hash = self.delivery.hasher.pair(u32::MAX, self.assigned_count);
            let client_id = format!("auto-{hash:016x}");
            // It lives where it is accepted, so that it need not be handed over.
            let at_home = self.mesh.placement.home_of_client(&client_id) == self.mesh.placement.own;
            if at_home && self.session_of(&client_id).is_none() {
                return client_id;
            }
        }
    }

    /// Binds a connection and a session to each other under what CONNECT asks for.
    fn attach(&mut self, now: Instant, id: ConnectionId, session_id: SessionId, connect: &Connect<'_>) {
        let limits = &self.delivery.limits;
        let expiry_interval_s = self.expiry_interval_s(connect);
        let topic_alias_maximum =
            connect.properties.topic_alias_maximum.unwrap_or(0).min(limits.topic_alias_outgoing_max);
        let keep_alive_s = self.keep_alive_s(connect);

        let session = self.delivery.sessions.get_mut(session_id.0).expect("found or made a moment ago");
        assert!(session.connection.is_none());
        session.connection = Some(id);
        self.attached_count += 1;
        if (session.expiry_interval_s > 0 || expiry_interval_s > 0) && session.subscriptions.count > 0 {
            self.records_version += 1;
        }
        session.expiry_interval_s = expiry_interval_s;
        if let Some(timer) = session.expiry_timer.take() {
            self.wheel.cancel(timer);
        }
        // The client is back before its will was due [MQTT-3.1.3-9].
        let will = connect.will.as_ref().map(|will| Box::new(Will::new(will)));
        if let Some(timer) = self.delivery.set_will(session_id, will).and_then(|will| will.timer) {
            self.wheel.cancel(timer);
        }
        let session = self.delivery.sessions.get_mut(session_id.0).expect("found or made a moment ago");
        if let Some(deliveries) = &mut session.deliveries {
            deliveries.rewind();
        }

        let connection = self.connection(id);
        connection.owner = Some(session_id);
        connection.receive_maximum = connect.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        connection.send_quota = connection.receive_maximum;
        if topic_alias_maximum > 0 {
            connection.aliases_out = Some(Box::new(OutgoingAliases::new(topic_alias_maximum)));
        }
        // The clock counts whole milliseconds and the silence begins within one: one more makes sure that it was
        // long enough [MQTT-3.1.2-22].
        connection.silence_ms_max = if keep_alive_s == 0 { 0 } else { u32::from(keep_alive_s) * 1500 + 1 };
        connection.received_at = now;
        let silence_ms_max = u64::from(connection.silence_ms_max);
        let deadline = (keep_alive_s > 0).then(|| now.plus_ms(silence_ms_max));
        self.set_connection_timer(id, deadline);
    }

    /// The keep alive in force: the client's, or ours if a 5.0 client asks for more or for none.
    fn keep_alive_s(&self, connect: &Connect<'_>) -> u16 {
        let asked_s = connect.keep_alive_s;
        let longest_s = self.delivery.limits.keep_alive_s_max;
        if connect.version.is_v5() && longest_s > 0 && (asked_s == 0 || asked_s > longest_s) {
            longest_s
        } else {
            asked_s
        }
    }

    /// The session expiry interval in force: what was asked for, as far as it is granted.
    fn expiry_interval_s(&self, connect: &Connect<'_>) -> u32 {
        let limits = &self.delivery.limits;
        let asked_s = match (connect.version, connect.clean_start) {
            (ProtocolVersion::V5, _) => connect.properties.session_expiry_interval_s.unwrap_or(0),
            (ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1, true) => 0,
            (ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1, false) => limits.default_session_expiry_s,
        };
        asked_s.min(limits.session_expiry_s_max)
    }

    /// The CONNACK of a connection that is accepted, but for whether a session is present.
    fn connack<'a>(
        &self,
        connect: &Connect<'_>,
        assigned: Option<&'a str>,
        told: &'a [(&'a str, &'a str)],
    ) -> ConnAck<'a> {
        let limits = &self.delivery.limits;
        let granted_s = self.expiry_interval_s(connect);
        let asked_s = connect.properties.session_expiry_interval_s.unwrap_or(0);
        let keep_alive_s = self.keep_alive_s(connect);
        let properties = ConnAckProperties {
            user_properties: UserProperties::from_pairs(if limits.tell_shard { told } else { &[] }),
            session_expiry_interval_s: (granted_s != asked_s).then_some(granted_s),
            receive_maximum: NonZeroU16::new(limits.receive_maximum),
            packet_bytes_max: NonZeroU32::new(limits.packet_bytes_max),
            assigned_client_id: assigned,
            topic_alias_maximum: Some(limits.topic_alias_maximum),
            // What is left out is available; 2 is what an absent Maximum QoS says [MQTT-3.2.2-9].
            maximum_qos: (limits.maximum_qos < QoS::ExactlyOnce).then_some(limits.maximum_qos),
            retain_available: (!limits.retain_available).then_some(false),
            wildcard_available: (!limits.wildcard_subscriptions).then_some(false),
            subscription_ids_available: (!limits.subscription_identifiers).then_some(false),
            shared_available: (!limits.shared_subscriptions).then_some(false),
            server_keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
            ..Default::default()
        };
        ConnAck { session_present: false, reason: ReasonCode::Success, properties }
    }

    /// What a client that asks for it is to build its response topics from [MQTT-3.1.2-28]: none if its identifier is no
    /// part of a topic.
    fn response_information(&self, connect: &Connect<'_>, client_id: &str) -> Option<String> {
        let prefix = &self.delivery.limits.response_topic_prefix;
        let is_requested = connect.properties.request_response_information == Some(true);
        if !is_requested || prefix.is_empty() {
            return None;
        }
        let told = format!("{prefix}/{client_id}");
        let is_topic = u16::try_from(told.len()).is_ok() && !told.contains(['+', '#']);
        is_topic.then_some(told)
    }

    /// CONNACK is out: what the session is owed may follow.
    pub(crate) fn on_opened(&mut self, now: Instant, session: SessionId, actions: &mut Actions) {
        if let Some(session) = self.delivery.sessions.get(session.0) {
            self.tree.member_changed(session.subscriptions);
        }
        self.delivery.deliver_pending(now, session, actions);
        self.schedule_replays(session);
    }

    /// The moment an interval of the protocol ends; `None` if it never does.
    pub(crate) fn interval_end(now: Instant, interval_s: u32) -> Option<Instant> {
        (interval_s != NEVER_S).then(|| now.plus_s(interval_s))
    }
}
