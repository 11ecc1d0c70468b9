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
use crate::record::{Body, Content};
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
    /// Its number in the log; 0 if it is not there.
    number: u64,
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
            number: 0,
        }
    }

    /// One that the log has.
    pub(crate) fn recovered(
        number: u64,
        (delay_interval_s, expiry_interval_s): (u32, Option<u32>),
        content: Content<'_>,
    ) -> Self {
        let mut message = StoredMessage::default();
        message.assign(&content.into(), None);
        Self { message, expiry_interval_s, delay_interval_s, timer: None, number }
    }

    /// Its number in the log.
    pub(crate) fn number(&self) -> Option<u64> {
        (self.number > 0).then_some(self.number)
    }

    /// Records it as a will of this user.
    pub(crate) fn record(&mut self, turn: &mut Turn<'_>, user: &str) {
        let Some(recorder) = turn.recorder() else { return };
        assert!(self.number == 0);
        self.number = recorder.next_number().get();
        if let (Some(body), Some(recorder)) = (self.body(user), turn.recorder()) {
            recorder.write(&body);
        }
    }

    /// Its record, as a will of this user; `None` if the log does not have it.
    pub(super) fn body<'a>(&'a self, user: &'a str) -> Option<Body<'a>> {
        let (number, content) = (self.number()?, self.message.view().content());
        let (delay_interval_s, expiry_interval_s) = (self.delay_interval_s, self.expiry_interval_s);
        Some(Body::Will { number, user, delay_interval_s, expiry_interval_s, content })
    }

    pub(super) fn delay_interval_s(&self) -> u32 {
        self.delay_interval_s
    }

    /// Gives it up: it will not be published.
    pub(crate) fn give_up(&self, turn: &mut Turn<'_>) {
        if let Some(timer) = self.timer {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
        self.record_end(turn);
    }

    /// Records that it will not be published.
    pub(crate) fn record_end(&self, turn: &mut Turn<'_>) {
        if let (Some(recorder), Some(number)) = (turn.recorder(), self.number()) {
            recorder.write(&Body::WillEnded { number });
        }
    }

    pub(crate) fn bytes_held(&self) -> u64 {
        heap::block(size_of::<Self>()) + self.message.heap_bytes()
    }

    /// The message, without its expiry.
    pub(super) fn message(&self) -> Message<'_> {
        self.message.view()
    }

    pub(super) fn expiry_interval_s(&self) -> Option<u32> {
        self.expiry_interval_s
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
    /// Lets the delay of the will run, on a session that has lost its connection at `since`. Returns whether the will is due at
    /// once. The end of the session publishes it as well, so a delay beyond that needs no timer.
    pub(super) fn delay_will(&mut self, turn: &mut Turn<'_>, id: SessionId, since: Instant) -> bool {
        let Some(will) = &mut self.will else { return false };
        assert!(will.timer.is_none());
        if will.delay_interval_s == 0 {
            return true;
        }
        if will.delay_interval_s < self.expiry_interval_s {
            let deadline = since.plus_s(will.delay_interval_s);
            will.timer = Some(turn.timers.insert(deadline, Timer::Will(id)));
        }
        false
    }
}
