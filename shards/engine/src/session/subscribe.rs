//! SUBSCRIBE and UNSUBSCRIBE.
//! Knows no tree structure and no retained message; `tree` and `replay` do.

use alloc::vec::Vec;

use wire::packet::{AckProperties, Reasons, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe};
use wire::{ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionId, TopicFilter};

use crate::base::time::Instant;
use crate::connection::ack_gate::PendingAck;
use crate::connection::reason_string::reason_string;
use crate::connection::table::ConnectionId;
use crate::engine::Engine;
use crate::event::Actions;
use crate::session::table::SessionId;
use crate::shared::reassignment::Leaving;

impl Engine {
    pub(crate) fn on_subscribe(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        subscribe: &Subscribe<'_>,
        actions: &mut Actions,
    ) {
        let v5 = self.connection(id).version.is_v5();
        if v5 && let Some(reason) = self.unsupported(subscribe) {
            // CONNACK said so, so it is a protocol error [3.2.2.3.11 to 3.2.2.3.13].
            self.protocol_error(now, id, reason, actions);
            return;
        }
        let codes: Vec<ReasonCode> = subscribe
            .filters
            .iter()
            .map(|(filter, options)| self.subscribe(session, &filter, options, subscribe.subscription_id))
            .collect();
        let must_persist = self.subscriptions_changed(session);
        let told = codes.iter().find_map(|&code| reason_string(code));
        let encode = |version, reason_string, out: &mut Vec<u8>| {
            let properties = AckProperties { reason_string, ..AckProperties::default() };
            let reasons = Reasons::from_codes(&codes);
            SubAck { packet_id: subscribe.packet_id, reasons, properties }.encode(version, out);
        };
        self.answer_filters(now, id, must_persist, true, told, encode, actions);
        self.schedule_replays(session);
    }

    /// What a SUBSCRIBE asks for that CONNACK said there is not.
    fn unsupported(&self, subscribe: &Subscribe<'_>) -> Option<ReasonCode> {
        let limits = &self.delivery.limits;
        if subscribe.subscription_id.is_some() && !limits.subscription_identifiers {
            return Some(ReasonCode::SubscriptionIdentifiersNotSupported);
        }
        if limits.wildcard_subscriptions && limits.shared_subscriptions {
            return None;
        }
        subscribe.filters.iter().find_map(|(filter, _)| self.unsupported_filter(&filter))
    }

    fn unsupported_filter(&self, filter: &TopicFilter<'_>) -> Option<ReasonCode> {
        let limits = &self.delivery.limits;
        if filter.share_name().is_some() && !limits.shared_subscriptions {
            return Some(ReasonCode::SharedSubscriptionsNotSupported);
        }
        if filter.has_wildcard() && !limits.wildcard_subscriptions {
            return Some(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        None
    }

    /// One filter of a SUBSCRIBE, as if it had come alone [MQTT-3.8.4-5].
    fn subscribe(
        &mut self,
        id: SessionId,
        filter: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) -> ReasonCode {
        // 3.1.1 was not told before, so it is now, filter by filter.
        if let Some(reason) = self.unsupported_filter(filter) {
            return reason;
        }
        let limits = &self.delivery.limits;
        let options = SubscribeOptions { qos: options.qos.min(limits.maximum_qos), ..options };
        if filter.levels().count() > usize::from(limits.topic_levels_max) {
            return ReasonCode::TopicFilterInvalid;
        }
        let session = self.delivery.sessions.get(id.0).expect("an open connection has a session");
        let full = session.subscriptions.count >= limits.subscriptions_per_session_max;
        let over_ceiling = self.delivery.is_over_memory_ceiling();
        if (full || over_ceiling) && !self.tree.holds(id.0.index(), filter) {
            return ReasonCode::QuotaExceeded;
        }
        let session = self.delivery.sessions.get_mut(id.0).expect("looked up above");
        let new = self.tree.subscribe(&mut session.subscriptions, id.0.index(), filter, options, identifier);
        self.delivery.held.filters = self.tree.text_bytes();
        let wants_retained = match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        };
        // A shared subscription is sent no retained messages [4.8.2].
        if filter.share_name().is_none() {
            self.update_replay(id, filter, options, identifier);
            if wants_retained {
                self.start_replay(id, filter, options, identifier);
            }
        }
        match options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    pub(crate) fn on_unsubscribe(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session_id: SessionId,
        unsubscribe: &Unsubscribe<'_>,
        actions: &mut Actions,
    ) {
        let mut leaving = Leaving::default();
        let codes: Vec<ReasonCode> = unsubscribe
            .filters
            .iter()
            .map(|filter| {
                self.cancel_replay(session_id, &filter);
                self.record_leaving(&mut leaving, &filter);
                let session =
                    self.delivery.sessions.get_mut(session_id.0).expect("an open connection has a session");
                let session_index = session_id.0.index();
                if self.tree.unsubscribe(&mut session.subscriptions, session_index, &filter) {
                    ReasonCode::Success
                } else {
                    ReasonCode::NoSubscriptionExisted
                }
            })
            .collect();
        self.leave_groups(session_id, leaving);
        let must_persist = self.subscriptions_changed(session_id);
        let encode = |version, _: Option<&str>, out: &mut Vec<u8>| {
            let (reasons, properties) = (Reasons::from_codes(&codes), AckProperties::default());
            UnsubAck { packet_id: unsubscribe.packet_id, reasons, properties }.encode(version, out);
        };
        self.answer_filters(now, id, must_persist, false, None, encode, actions);
    }

    /// Sends SUBACK or UNSUBACK through the gate; a SUBACK once every shard knows the filters. Words go along where they
    /// fit and are wanted [MQTT-3.1.2-29]. A client that asked about more filters than it can be answered for is told
    /// that [MQTT-3.1.2-24].
    #[expect(clippy::too_many_arguments, reason = "two packets that differ in two facts and their encoding")]
    fn answer_filters(
        &mut self,
        now: Instant,
        id: ConnectionId,
        must_persist: bool,
        must_be_known: bool,
        told: Option<&'static str>,
        encode: impl Fn(ProtocolVersion, Option<&'static str>, &mut Vec<u8>),
        actions: &mut Actions,
    ) {
        let connection = self.connection(id);
        let packet_bytes_max = connection.packet_bytes_max as usize;
        let (version, told) = (connection.version, told.filter(|_| connection.problem_information));
        let mut bytes = Vec::new();
        encode(version, told, &mut bytes);
        if told.is_some() && bytes.len() > packet_bytes_max {
            bytes.clear();
            encode(version, None, &mut bytes);
        }
        if bytes.len() > packet_bytes_max {
            self.close(now, id, Some(ReasonCode::PacketTooLarge), actions);
            return;
        }
        let ack = PendingAck::Encoded(bytes.into_boxed_slice());
        if must_be_known {
            self.acknowledge_after_interest(now, id, ack, must_persist, actions);
        } else {
            self.acknowledge(now, id, ack, must_persist, actions);
        }
    }

    /// Notes a change; returns whether the session outlives its connection, so that it has to be durable.
    fn subscriptions_changed(&mut self, id: SessionId) -> bool {
        let session = self.delivery.sessions.get(id.0).expect("an open connection has a session");
        let persistent = session.is_persistent();
        self.records_version += u64::from(persistent);
        persistent
    }
}
