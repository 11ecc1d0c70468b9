//! The messages that operators ask about or publish: retained ones, a part of the list at a time, and their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Event, RetainedSummary};
use tracing::info;
use wire::{QoS, TopicFilter, TopicName};

use super::lists::some;
use super::{Endpoint, Host};
use crate::admin::operator::{Answer, PAYLOAD_BYTES_MAX, Page, RetainedRow};
use crate::observe::connection_log::printable;

/// Topics that are looked at for one answer.
const TOPICS_MAX: usize = 1_024;

impl<T: Endpoint> Host<T> {
    pub(super) fn retained(&self, filter: &str, after: Option<&str>) -> Answer {
        let Ok(filter) = TopicFilter::parse_unshared(filter) else { return Answer::NotUnderstood };
        let mut page = Page::default();
        let (engine, now) = (self.engine.borrow(), self.clock.now());
        let next = engine.visit_retained(now, (&filter, after), TOPICS_MAX, &mut |message| {
            page.take(message.topic.len() + message.user.len(), || row(&message))
        });
        Answer::Retained { rows: page.into_rows(), next: self.place_of(next.map(Some)) }
    }

    pub(super) fn retained_message(&self, topic: &str) -> Answer {
        let engine = self.engine.borrow();
        let Some(message) = engine.retained_of(self.clock.now(), topic) else { return Answer::NoMessage };
        let is_short = message.payload.len() <= PAYLOAD_BYTES_MAX;
        let payload = is_short.then(|| STANDARD.encode(message.payload));
        Answer::RetainedMessage { row: row(&message), payload }
    }

    pub(super) fn clear_retained(&self, topic: &str) -> Answer {
        if self.engine.borrow().retained_of(self.clock.now(), topic).is_none() {
            return Answer::NoMessage;
        }
        info!(topic = printable(topic), "retained message removed by the operator");
        self.publish_now(topic, b"", QoS::AtMostOnce, true)
    }

    pub(super) fn publish_of_operator(
        &self,
        (topic, payload): (&str, &str),
        qos: u8,
        retain: bool,
    ) -> Answer {
        let (Some(qos), Ok(payload)) = (QoS::from_bits(qos), STANDARD.decode(payload)) else {
            return Answer::NotUnderstood;
        };
        let (topic_shown, payload_bytes) = (printable(topic), payload.len());
        info!(topic = topic_shown, payload_bytes, qos = qos as u8, retain, "published by the operator");
        self.publish_now(topic, &payload, qos, retain)
    }

    fn publish_now(&self, topic: &str, payload: &[u8], qos: QoS, retain: bool) -> Answer {
        let is_own = topic == "$SYS" || topic.starts_with("$SYS/");
        if is_own || TopicName::parse(topic).is_err() {
            return Answer::NotUnderstood;
        }
        let refused = || self.engine.borrow().counters().publishes_refused;
        let before = refused();
        let _nothing = self.step(Event::Publish { topic, payload, qos, retain });
        if refused() > before { Answer::Refused } else { Answer::Done }
    }
}

fn row(message: &RetainedSummary<'_>) -> RetainedRow {
    RetainedRow {
        topic: message.topic.to_owned(),
        payload_bytes: message.payload.len(),
        qos: message.qos as u8,
        expires_in_s: message.expiry_left_s,
        user: some(message.user),
    }
}
