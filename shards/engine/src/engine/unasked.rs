//! Messages for which no client waits: wills, the broker's own, and the operator's.

use wire::QoS;

use super::Rooms;
use super::backlog::{Side, Unasked};
use crate::message::borrowed::Message;
use crate::topic::sys::is_sys;
use crate::turn::Turn;

impl Rooms {
    /// The host publishes one of the broker's own messages: QoS 0, because the next one replaces it, and retained
    /// unless it is empty. The limits of the retained store are for clients' messages and do not count it.
    ///
    /// # Panics
    /// If the topic is not below `$SYS`.
    pub(super) fn publish_sys(&mut self, turn: &mut Turn<'_>, topic: &str, payload: &[u8]) {
        assert!(is_sys(topic));
        let message = Message {
            topic,
            forwarded: &[],
            payload,
            qos: QoS::AtMostOnce,
            retain: true,
            expires_at: None,
            packet: None,
        };
        self.publish_unasked(turn, &message, Unasked::default());
    }

    /// The operator publishes a message, under no rules.
    ///
    /// # Panics
    /// If the topic is `$SYS` or below.
    pub(super) fn publish_of_operator(
        &mut self,
        turn: &mut Turn<'_>,
        (topic, payload): (&str, &[u8]),
        qos: QoS,
        retain: bool,
    ) {
        assert!(!is_sys(topic));
        let message = Message { topic, forwarded: &[], payload, qos, retain, expires_at: None, packet: None };
        self.publish_unasked(turn, &message, Unasked::default());
    }

    /// Publishes a message for which no client waits. It waits if another fan-out is under way.
    pub(super) fn publish_unasked(&mut self, turn: &mut Turn<'_>, message: &Message<'_>, unasked: Unasked) {
        if self.backlog.may_publish(Side::Clients) {
            self.route_unasked(turn, message, unasked);
        } else {
            self.delivery.sessions.users_mut().hold(unasked.user());
            self.backlog.push_message(message, unasked);
        }
    }

    /// Publishes a message for which no client waits now.
    pub(super) fn route_unasked(&mut self, turn: &mut Turn<'_>, message: &Message<'_>, unasked: Unasked) {
        if let (Some(recorder), Some(will)) = (turn.recorder(), unasked.will()) {
            recorder.set_will(will);
        }
        // A refusal is counted where it is decided.
        let _routed = self.route(turn, message, None, unasked.user());
        if let Some(recorder) = turn.recorder() {
            recorder.end_will();
        }
    }
}
