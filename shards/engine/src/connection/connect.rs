//! CONNECT as the standard and the bounds see it: why it is refused, the intervals that are granted, and CONNACK.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};

use smallvec::SmallVec;
use wire::packet::{ConnAck, ConnAckProperties, Connect, UserProperties};
use wire::{Malformed, PACKET_BYTES_MAX, PacketType, ProtocolVersion, QoS, ReasonCode};

use super::bounded_write::append_bounded;
use super::disconnect::{refusal_reason, server_reference};
use super::facts::Fact;
use super::{Connection, Connections, Phase};
use crate::base::ids::ConnectionId;
use crate::cause::Cause;
use crate::limits::{Limits, Redirect};
use crate::topic::sys::is_sys;
use crate::turn::Turn;

/// The user property in which a client asks for the accident that acknowledgements survive, and is told.
const DURABILITY: &str = "durability";

/// Bytes of a CONNACK, most often.
const CONNACK_BYTES: usize = 16;

/// The parts of a CONNACK that the session and the authentication contribute.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acceptance<'a> {
    /// The identifier that was assigned, if the client left it to us [MQTT-3.2.2-16].
    assigned_client_id: Option<&'a str>,
    /// The method and its last data [MQTT-4.12.0-5].
    authenticated: Option<(&'a str, &'a [u8])>,
    /// Told in a user property, for tests and benches.
    shard: Option<&'a str>,
    /// The accident that acknowledgements survive, told in a user property to a client that sends one of that name.
    durability: Option<&'a str>,
    response_information: Option<&'a str>,
}

impl<'a> Acceptance<'a> {
    pub(crate) fn new(
        assigned_client_id: Option<&'a str>,
        authenticated: Option<(&'a str, &'a [u8])>,
        shard: Option<&'a str>,
        response_information: Option<&'a str>,
    ) -> Self {
        Self { assigned_client_id, authenticated, shard, response_information, durability: None }
    }

    /// It tells the accident that acknowledgements survive, if the client asks.
    pub(crate) fn telling(self, (limits, listener): (&Limits, u16), connect: &Connect<'_>) -> Self {
        let mut asked = connect.properties.user_properties.iter();
        let is_asked = asked.any(|(name, _)| name == DURABILITY);
        Self { durability: is_asked.then(|| limits.durability_of(listener)), ..self }
    }
}

impl Connection {
    /// The number of the listener that accepted it.
    pub(crate) fn listener(&self) -> u16 {
        self.listener
    }

    /// The longest packet that is accepted of it, in bytes.
    #[inline]
    pub(crate) fn receive_bytes_max(&self) -> u32 {
        self.receive_bytes_max
    }

    /// The highest QoS that is accepted of it and granted to it.
    #[inline]
    pub(crate) fn maximum_qos(&self) -> QoS {
        self.maximum_qos
    }

    /// Takes the limits of the client over from its CONNECT.
    pub(crate) fn set_limits(&mut self, connect: &Connect<'_>) {
        assert!(matches!(self.phase(), Phase::Fresh(_)));
        self.version = connect.version;
        self.facts.set(Fact::Bridge, connect.is_bridge);
        let packet_bytes_max = connect.properties.packet_bytes_max.map_or(PACKET_BYTES_MAX, NonZeroU32::get);
        self.packet_bytes_max = packet_bytes_max.min(PACKET_BYTES_MAX);
        let wants_reasons = connect.properties.request_problem_information.unwrap_or(true);
        self.facts.set(Fact::NoProblemInformation, !wants_reasons);
    }
}

impl Connections {
    /// Takes over the quota and the aliases that an accepted CONNECT grants us [MQTT-3.3.4-9].
    pub(crate) fn set_quota(&mut self, limits: &Limits, id: ConnectionId, connect: &Connect<'_>) {
        let connection = self.current(id);
        assert!(matches!(connection.phase(), Phase::Accepting(_)));
        connection.receive_maximum = connect.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        connection.send_quota = connection.receive_maximum;
        let alias_max =
            connect.properties.topic_alias_maximum.unwrap_or(0).min(limits.topic_alias_outgoing_max);
        if alias_max > 0 {
            self.begin_aliases_out(id, alias_max);
        }
    }

    /// Answers a CONNECT that is not accepted [MQTT-3.2.2-7]. It may be that not even the reason fits [MQTT-3.1.2-24].
    pub(crate) fn refuse_connect(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        version: ProtocolVersion,
        cause: Cause,
    ) {
        let reason = refusal_reason(turn.limits, cause);
        let is_known = reason.is_error() && reason.is_allowed_in(PacketType::ConnAck);
        let reason = if is_known { reason } else { ReasonCode::ProtocolError };
        let text = format!("{}", cause.explained(turn.limits));
        assert!(self.current(id).session().is_none());
        let bytes_max = self.current(id).packet_bytes_max;
        let reference = server_reference(turn.limits, reason);
        let (reference, none) = (reference.as_deref(), ConnAckProperties::default);
        let variants = [
            ConnAckProperties { reason_string: Some(&text), server_reference: reference, ..none() },
            ConnAckProperties { server_reference: reference, ..none() },
            none(),
        ];
        let mut bytes = Vec::new();
        let fits = append_bounded(&mut bytes, bytes_max, &variants, |properties, out| {
            ConnAck { session_present: false, reason, properties: *properties }.encode(version, out);
        });
        if fits {
            self.write(turn, id, |out| out.extend_from_slice(&bytes));
        }
    }

    /// Answers a first packet that could not be read. Only an unknown protocol level is worth an answer, in the form that
    /// its sender may understand [MQTT-3.1.2-2]; any other sender may not speak MQTT.
    pub(crate) fn refuse_malformed_connect(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        malformed: Malformed,
    ) {
        if let Malformed::UnsupportedProtocolVersion { level } = malformed {
            let is_newer = level > ProtocolVersion::V5.level();
            let version = if is_newer { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
            self.refuse_connect(turn, id, version, Cause::Malformed(malformed));
        }
    }

    /// Answers a CONNECT whose fixed header says that it is too long. Only 5.0 has a code for it, and only a client of which the
    /// first bytes have come with the header is known to speak it. Its Maximum Packet Size was not read, so no text is sent
    /// [MQTT-3.2.2-19].
    pub(crate) fn refuse_long_connect(&mut self, turn: &mut Turn<'_>, id: ConnectionId, body: &[u8]) {
        if Connect::version_of(body) == Some(ProtocolVersion::V5) {
            let reason = Cause::ConnectTooLong.reason();
            let answer = ConnAck { session_present: false, reason, properties: ConnAckProperties::default() };
            self.write(turn, id, |out| answer.encode(ProtocolVersion::V5, out));
        }
    }
}

/// The reason to refuse a well-formed CONNECT, if there is one. `is_given` says that the client was given an identifier; of its
/// will count the highest QoS that is accepted and whether memory is short.
pub(crate) fn refusal(
    limits: &Limits,
    connect: &Connect<'_>,
    is_given: bool,
    (maximum_qos, over_ceiling): (QoS, bool),
) -> Option<Cause> {
    match limits.redirect {
        Redirect::Off => {}
        Redirect::UseAnother => return Some(Cause::UseAnotherServer),
        Redirect::Moved => return Some(Cause::ServerMoved),
    }
    let method = connect.properties.authentication_method;
    if method.is_some_and(|method| !limits.authentication_methods.iter().any(|known| **known == *method)) {
        // [MQTT-4.12.0-1]
        return Some(Cause::UnknownMethod);
    }
    if !is_given && connect.client_id.len() > usize::from(limits.client_id_bytes_max) {
        return Some(Cause::ClientIdTooLong);
    }
    let may_be_assigned = match connect.version {
        _ if !limits.assigned_client_ids => false,
        ProtocolVersion::V3_1 => false,
        // Without clean session an assigned identifier could never be resumed.
        ProtocolVersion::V3_1_1 => connect.clean_start,
        ProtocolVersion::V5 => true,
    };
    if connect.client_id.is_empty() && !is_given && !may_be_assigned {
        return Some(Cause::ClientIdMissing);
    }
    connect.will.as_ref().and_then(|will| will_refusal(limits, will, (maximum_qos, over_ceiling)))
}

fn will_refusal(
    limits: &Limits,
    will: &wire::Will<'_>,
    (maximum_qos, over_ceiling): (QoS, bool),
) -> Option<Cause> {
    if is_sys(will.topic.as_str()) {
        return Some(Cause::WillDenied);
    }
    if will.topic.levels().count() > usize::from(limits.topic_levels_max) {
        return Some(Cause::WillTopicLevels);
    }
    if over_ceiling {
        return Some(Cause::WillMemory);
    }
    if will.qos > maximum_qos {
        // [MQTT-3.2.2-12]
        return Some(Cause::WillQos);
    }
    if will.retain && !limits.retain_available {
        // [MQTT-3.2.2-13]
        return Some(Cause::WillRetain);
    }
    if !has_valid_payload_format(limits, will.properties.payload_format_utf8, will.payload) {
        return Some(Cause::WillPayloadFormat);
    }
    None
}

/// Whether a payload has the format that its Payload Format Indicator says, where that is to be checked.
pub(crate) fn has_valid_payload_format(limits: &Limits, utf8: Option<bool>, payload: &[u8]) -> bool {
    let is_checked = limits.check_payload_format && utf8 == Some(true);
    !is_checked || core::str::from_utf8(payload).is_ok()
}

/// The keep alive in force: the client's, or ours if a 5.0 client asks for more or for none.
pub(crate) fn keep_alive_s(limits: &Limits, connect: &Connect<'_>) -> u16 {
    let asked_s = connect.keep_alive_s;
    let longest_s = limits.keep_alive_s_max;
    if connect.version.is_v5() && longest_s > 0 && (asked_s == 0 || asked_s > longest_s) {
        longest_s
    } else {
        asked_s
    }
}

/// The session expiry interval in force: the one that was asked for, as far as it is granted.
pub(crate) fn expiry_interval_s(limits: &Limits, connect: &Connect<'_>) -> u32 {
    let asked_s = match (connect.version, connect.clean_start) {
        (ProtocolVersion::V5, _) => connect.properties.session_expiry_interval_s.unwrap_or(0),
        (ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1, true) => 0,
        (ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1, false) => limits.default_session_expiry_s,
    };
    asked_s.min(limits.session_expiry_s_max)
}

/// The prefix from which a client that asks for it builds its response topics [MQTT-3.1.2-28]: none if its identifier
/// cannot be part of a topic.
pub(crate) fn response_information(
    limits: &Limits,
    connect: &Connect<'_>,
    client_id: &str,
) -> Option<String> {
    let prefix = &limits.response_topic_prefix;
    let is_asked = connect.properties.request_response_information == Some(true);
    if !is_asked || prefix.is_empty() {
        return None;
    }
    let text = format!("{prefix}/{client_id}");
    let is_topic = u16::try_from(text.len()).is_ok() && !text.contains(['+', '#']);
    is_topic.then_some(text)
}

/// Encodes the CONNACK of a connection that is accepted, without its user properties where they do not fit
/// [MQTT-3.2.2-20]. `None` if the client accepts no packet of that length. [`set_session_present`] completes it.
pub(crate) fn encode_connack(
    (limits, listener): (&Limits, u16),
    connect: &Connect<'_>,
    acceptance: &Acceptance<'_>,
    bytes_max: u32,
) -> Option<Vec<u8>> {
    let granted_s = expiry_interval_s(limits, connect);
    let asked_s = connect.properties.session_expiry_interval_s.unwrap_or(0);
    let keep_alive_s = keep_alive_s(limits, connect);
    let (method, data) = acceptance.authenticated.unzip();
    let properties = ConnAckProperties {
        session_expiry_interval_s: (granted_s != asked_s).then_some(granted_s),
        receive_maximum: NonZeroU16::new(limits.receive_maximum),
        packet_bytes_max: NonZeroU32::new(limits.packet_bytes_max_of(listener)),
        assigned_client_id: acceptance.assigned_client_id,
        topic_alias_maximum: Some(limits.topic_alias_maximum),
        // A feature that is left out is available; 2 is what an absent Maximum QoS says [MQTT-3.2.2-9].
        maximum_qos: Some(limits.maximum_qos_of(listener)).filter(|&qos| qos < QoS::ExactlyOnce),
        retain_available: (!limits.retain_available).then_some(false),
        wildcard_available: (!limits.wildcard_subscriptions).then_some(false),
        subscription_ids_available: (!limits.subscription_identifiers).then_some(false),
        shared_available: (!limits.shared_subscriptions).then_some(false),
        server_keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
        response_information: acceptance.response_information,
        authentication_method: method,
        authentication_data: data.filter(|data| !data.is_empty()),
        ..Default::default()
    };
    let told = [("shard", acceptance.shard), (DURABILITY, acceptance.durability)];
    let told: SmallVec<[_; 2]> = told.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    let variants = [&told[..], &[]];
    let variants = if told.is_empty() { &variants[1..] } else { &variants[..] };
    let mut bytes = Vec::with_capacity(CONNACK_BYTES);
    let fits = append_bounded(&mut bytes, bytes_max, variants, |user_properties, out| {
        let user_properties = UserProperties::from_pairs(user_properties);
        let properties = ConnAckProperties { user_properties, ..properties };
        let reason = ReasonCode::Success;
        ConnAck { session_present: false, reason, properties }.encode(connect.version, out);
    });
    fits.then_some(bytes)
}

/// Sets Session Present in an encoded CONNACK: a bit of the byte behind the Remaining Length [3.2.2.1.1].
pub(crate) fn set_session_present(connack: &mut [u8]) {
    let length_end = connack.iter().skip(1).position(|&byte| byte < 0x80).expect("it was encoded whole") + 1;
    let flags = &mut connack[length_end + 1];
    assert!(*flags == 0);
    *flags = 1;
}
