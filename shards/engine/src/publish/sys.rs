//! The broker's own topics, `$SYS` and what is below: published by the host, read by clients, written by none of them.
//! Knows no topic of them by name.

use wire::packet::{AckKind, Publish};
use wire::{QoS, ReasonCode};

use crate::base::time::Instant;
use crate::connection::ack_gate::PendingAck;
use crate::connection::table::ConnectionId;
use crate::engine::Engine;
use crate::event::Actions;
use crate::message::stored::MessageView;

/// Whether a topic is the broker's own. Filters that begin with a wildcard do not match it [MQTT-4.7.2-1].
pub(crate) fn is_sys(topic: &str) -> bool {
    topic.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Engine {
    /// The host publishes one of the broker's own messages: QoS 0, because the next one replaces it, and retained
    /// unless it is empty. The limits of the retained store are for clients' messages and do not count it.
    ///
    /// # Panics
    /// If the topic is not below `$SYS`.
    pub(crate) fn on_sys(&mut self, now: Instant, topic: &str, payload: &[u8], actions: &mut Actions) {
        assert!(is_sys(topic));
        let view = MessageView {
            topic,
            forwarded: &[],
            payload,
            qos: QoS::AtMostOnce,
            retain: true,
            expires_at: None,
            packet: None,
        };
        let _counted = self.route(now, view, None, actions);
    }

    /// A client's PUBLISH to a topic of the broker's own goes nowhere. A 5.0 client is told so; an older one, which
    /// could only be closed, is acknowledged as other brokers do it. Either is counted.
    pub(crate) fn deny_sys(
        &mut self,
        now: Instant,
        id: ConnectionId,
        publish: &Publish<'_>,
        actions: &mut Actions,
    ) {
        self.delivery.counters.publishes_denied += 1;
        let kind = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => AckKind::PubAck,
            QoS::ExactlyOnce => AckKind::PubRec,
        };
        let Some(packet_id) = publish.packet_id else { return };
        if !self.count_receiving(now, id, actions) {
            return;
        }
        let v5 = self.connection(id).version.is_v5();
        let reason = if v5 { ReasonCode::NotAuthorized } else { ReasonCode::Success };
        self.acknowledge(now, id, PendingAck::Ack(kind, packet_id, reason), false, actions);
    }
}
