//! Wills: kept with the session, published when its connection ends badly and the delay has passed.
//! Knows no connection; `disconnect` says when one has ended.

use alloc::boxed::Box;
use alloc::vec::Vec;

use wire::QoS;

use crate::base::time::Instant;
use crate::base::timer_wheel::TimerId;
use crate::engine::Engine;
use crate::event::Actions;
use crate::message::stored::MessageView;
use crate::session::table::SessionId;
use crate::timer::Timer;

/// A message that the broker itself will publish.
#[derive(Debug)]
pub(crate) struct OwnedMessage {
    topic: Box<str>,
    forwarded: Box<[u8]>,
    payload: Box<[u8]>,
    qos: QoS,
    retain: bool,
    expiry_interval_s: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) message: OwnedMessage,
    delay_interval_s: u32,
    /// Set while the delay runs.
    pub(crate) timer: Option<TimerId>,
}

impl OwnedMessage {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        (self.topic.len() + self.forwarded.len() + self.payload.len()) as u64
    }
}

impl Will {
    pub(crate) fn new(will: &wire::Will<'_>) -> Self {
        let mut forwarded = Vec::new();
        will.properties.append_forwardable(&mut forwarded);
        Self {
            message: OwnedMessage {
                topic: will.topic.as_str().into(),
                forwarded: forwarded.into_boxed_slice(),
                payload: will.payload.into(),
                qos: will.qos,
                retain: will.retain,
                expiry_interval_s: will.properties.message_expiry_interval_s,
            },
            delay_interval_s: will.properties.delay_interval_s.unwrap_or(0),
            timer: None,
        }
    }
}

impl Engine {
    /// The connection of a session that goes on has ended: its will is due after its delay, or when the
    /// session ends, whichever comes first [MQTT-3.1.2-8].
    pub(crate) fn delay_will(&mut self, now: Instant, id: SessionId, actions: &mut Actions) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let Some(will) = &mut session.will else { return };
        if will.delay_interval_s == 0 {
            self.publish_will(now, id, actions);
            return;
        }
        // The end of the session publishes it too, so a delay beyond that needs no timer.
        if will.delay_interval_s < session.expiry_interval_s {
            let timer = self.wheel.insert(now.plus_s(will.delay_interval_s), Timer::Will(id));
            will.timer = Some(timer);
        }
    }

    /// Publishes the will of a session and forgets it [MQTT-3.1.2-10].
    pub(crate) fn publish_will(&mut self, now: Instant, id: SessionId, actions: &mut Actions) {
        let Some(will) = self.delivery.set_will(id, None) else { return };
        self.publish_message(now, &will.message, actions);
    }

    /// Publishes a message in the broker's own name.
    pub(crate) fn publish_message(&mut self, now: Instant, message: &OwnedMessage, actions: &mut Actions) {
        let view = MessageView {
            topic: &message.topic,
            forwarded: &message.forwarded,
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            expires_at: message.expiry_interval_s.map(|interval_s| now.plus_s(interval_s)),
            packet: None,
        };
        // No client waits for an answer: a refusal is counted where it is decided.
        let _routed = self.route(now, view, None, actions);
    }
}
