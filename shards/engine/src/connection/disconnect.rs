//! The end of a connection: how it is closed, and the DISCONNECT that says why.

use alloc::boxed::Box;

use wire::ReasonCode;
use wire::packet::{Disconnect, DisconnectProperties};

use super::Connections;
use super::bounded_write::append_bounded;
use crate::base::ids::ConnectionId;
use crate::cause::Cause;
use crate::limits::Limits;
use crate::turn::Turn;

/// Every reason with which the engine closes an open connection and that DISCONNECT carries to a 5.0 client. The reasons
/// that the host gives as [`crate::Verdict::Failed`] come on top.
pub const CLOSE_REASONS: [ReasonCode; 21] = [
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerShuttingDown,
    ReasonCode::KeepAliveTimeout,
    ReasonCode::SessionTakenOver,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::MaximumConnectTime,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

/// The room that a packet waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Memory, for a time.
    Memory,
    /// The log, for as long as it takes: its client may stay silent meanwhile.
    Log,
}

/// How a connection is closed. The handler of a packet returns one as its error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Close {
    /// Without a packet that says why.
    Silently(Cause),
    /// With DISCONNECT, for a client that knows it.
    Told(Cause),
    /// Not yet: its packet is put back and waits.
    Wait(Wait),
    /// The exchange of authentication has failed: CONNACK or DISCONNECT, by the phase.
    Authentication(Cause),
    /// CONNECT was refused: the client is answered and its end noted.
    Refused,
}

// Every handler of a packet returns one.
const _: () = assert!(size_of::<Result<(), Close>>() <= 16);

impl Connections {
    /// Writes the DISCONNECT that says why a connection is closed. Only 5.0 has one, and only after CONNACK
    /// [MQTT-3.14.0-1].
    pub(crate) fn write_disconnect(&mut self, turn: &mut Turn<'_>, id: ConnectionId, cause: Cause) {
        let Some(connection) = self.get(id) else { return };
        if !connection.is_open() || !connection.version.is_v5() {
            return;
        }
        let reason = disconnect_reason(turn.limits, cause);
        assert!(CLOSE_REASONS.contains(&reason) || connection.authentication.is_some());
        let (version, bytes_max) = (connection.version, connection.packet_bytes_max);
        let reference = server_reference(turn.limits, reason);
        let text = alloc::format!("{}", cause.explained(turn.limits));
        self.write(turn, id, |out| {
            // Texts and references only where they fit [MQTT-3.14.2-3].
            let variants = [(Some(&*text), reference.as_deref()), (None, reference.as_deref()), (None, None)];
            append_bounded(out, bytes_max, &variants, |&(reason_string, server_reference), out| {
                let properties =
                    DisconnectProperties { reason_string, server_reference, ..Default::default() };
                Disconnect { reason, properties }.encode(version, out);
            });
        });
    }
}

/// The server that a reason refers clients to.
pub(crate) fn server_reference(limits: &Limits, reason: ReasonCode) -> Option<Box<str>> {
    let refers = matches!(reason, ReasonCode::UseAnotherServer | ReasonCode::ServerMoved);
    (refers && !limits.server_reference.is_empty()).then(|| limits.server_reference.clone())
}

/// The reason of a DISCONNECT.
fn disconnect_reason(limits: &Limits, cause: Cause) -> ReasonCode {
    if matches!(cause, Cause::Stopping | Cause::Drained) {
        stop_reason(limits, ReasonCode::ServerShuttingDown)
    } else {
        cause.reason()
    }
}

/// The reason of a CONNACK that refuses.
pub(crate) fn refusal_reason(limits: &Limits, cause: Cause) -> ReasonCode {
    match cause {
        Cause::Stopping | Cause::Drained => stop_reason(limits, ReasonCode::ServerUnavailable),
        cause => cause.reason(),
    }
}

/// The reason with which a stop or a drain ends or refuses connections: `otherwise`, unless there is a server to refer to.
fn stop_reason(limits: &Limits, otherwise: ReasonCode) -> ReasonCode {
    if limits.server_reference.is_empty() { otherwise } else { ReasonCode::UseAnotherServer }
}
