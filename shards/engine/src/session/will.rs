//! The will of a session: a message that the broker publishes when the connection ends without a normal DISCONNECT
//! and the delay has passed [MQTT-3.1.2-8].

use alloc::vec::Vec;

use super::Session;
use crate::base::heap;
use crate::base::ids::SessionId;
use crate::base::time::Instant;
use crate::base::timer_wheel::TimerId;
use crate::message::borrowed::Message;
use crate::message::stored::StoredMessage;
use crate::timer::Timer;
use crate::turn::Turn;

#[derive(Debug)]
pub(crate) struct Will {
    message: StoredMessage,
    /// Counted from the moment it is published.
    expiry_interval_s: Option<u32>,
    delay_interval_s: u32,
    /// Set while the delay runs.
    timer: Option<TimerId>,
}

impl Will {
    pub(crate) fn new(will: &wire::Will<'_>) -> Self {
        let mut forwarded = Vec::new();
        will.properties.append_forwardable(&mut forwarded);
        let mut message = StoredMessage::default();
        message.assign(
            &Message {
                topic: will.topic.as_str(),
                forwarded: &forwarded,
                payload: will.payload,
                qos: will.qos,
                retain: will.retain,
                expires_at: None,
                packet: None,
            },
            None,
        );
        Self {
            message,
            expiry_interval_s: will.properties.message_expiry_interval_s,
            delay_interval_s: will.properties.delay_interval_s.unwrap_or(0),
            timer: None,
        }
    }

    pub(crate) fn bytes_held(&self) -> u64 {
        heap::block(size_of::<Self>()) + self.message.heap_bytes()
    }

    pub(crate) fn timer(&self) -> Option<TimerId> {
        self.timer
    }

    /// The message as it is published at `now`.
    pub(crate) fn message_at(&self, now: Instant) -> Message<'_> {
        let expires_at = self.expiry_interval_s.map(|interval_s| now.plus_s(interval_s));
        Message { expires_at, ..self.message.view() }
    }
}

impl Session {
    /// Lets the delay of the will run, on a session that has lost its connection. Returns whether the will is due at
    /// once. The end of the session publishes it as well, so a delay beyond that needs no timer.
    pub(super) fn delay_will(&mut self, turn: &mut Turn<'_>, id: SessionId) -> bool {
        let Some(will) = &mut self.will else { return false };
        assert!(will.timer.is_none());
        if will.delay_interval_s == 0 {
            return true;
        }
        if will.delay_interval_s < self.expiry_interval_s {
            let deadline = turn.now.plus_s(will.delay_interval_s);
            will.timer = Some(turn.timers.insert(deadline, Timer::Will(id)));
        }
        false
    }
}
