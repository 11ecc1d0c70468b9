//! SUBSCRIBE and UNSUBSCRIBE.
//! Knows no tree structure and no retained message; `tree` and `lookup` do.

use alloc::vec::Vec;

use wire::packet::{AckProperties, Reasons, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe};
use wire::{ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionId, TopicFilter};

use crate::connection::ConnectionId;
use crate::engine::Engine;
use crate::event::Actions;
use crate::gate::Earned;
use crate::moves::Leaving;
use crate::session::SessionId;
use crate::time::Instant;

impl Engine {
    pub(crate) fn on_subscribe(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        subscribe: &Subscribe<'_>,
        actions: &mut Actions,
    ) {
        let codes: Vec<ReasonCode> = subscribe
            .filters
            .iter()
            .map(|(filter, options)| self.subscribe(session, &filter, options, subscribe.subscription_id))
            .collect();
        let suback = SubAck {
            packet_id: subscribe.packet_id,
            reasons: Reasons::from_codes(&codes),
            properties: AckProperties::default(),
        };
        let must_persist = self.subscriptions_changed(session);
        self.answer_filters(now, id, must_persist, true, |version, out| suback.encode(version, out), actions);
        self.schedule_lookups(session);
    }

    /// One filter of a SUBSCRIBE, as if it had come alone [MQTT-3.8.4-5].
    fn subscribe(
        &mut self,
        id: SessionId,
        filter: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) -> ReasonCode {
        let limits = &self.delivery.limits;
        if filter.levels().count() > usize::from(limits.topic_levels_max) {
            return ReasonCode::TopicFilterInvalid;
        }
        let session = self.delivery.sessions.get_mut(id.0).expect("an open connection has a session");
        let full = session.subscriptions.count >= limits.subscriptions_per_session_max;
        if full && !self.tree.holds(id.0.index, filter) {
            return ReasonCode::QuotaExceeded;
        }
        let new = self.tree.subscribe(&mut session.subscriptions, id.0.index, filter, options, identifier);
        let wants_retained = match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        };
        // A shared subscription is sent no retained messages [4.8.2].
        if wants_retained && filter.share_name().is_none() {
            self.open_lookup(id, filter, options, identifier);
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
                self.close_lookup(session_id, &filter);
                self.note_leaving(&mut leaving, &filter);
                let session =
                    self.delivery.sessions.get_mut(session_id.0).expect("an open connection has a session");
                let session_index = session_id.0.index;
                if self.tree.unsubscribe(&mut session.subscriptions, session_index, &filter) {
                    ReasonCode::Success
                } else {
                    ReasonCode::NoSubscriptionExisted
                }
            })
            .collect();
        self.leave_groups(session_id, leaving);
        let unsuback = UnsubAck {
            packet_id: unsubscribe.packet_id,
            reasons: Reasons::from_codes(&codes),
            properties: AckProperties::default(),
        };
        let must_persist = self.subscriptions_changed(session_id);
        self.answer_filters(
            now,
            id,
            must_persist,
            false,
            |version, out| unsuback.encode(version, out),
            actions,
        );
    }

    /// Sends SUBACK or UNSUBACK through the gate; a SUBACK once every shard knows the filters. A client that asked about more filters than it can be
    /// answered for is told that [MQTT-3.1.2-24].
    fn answer_filters(
        &mut self,
        now: Instant,
        id: ConnectionId,
        must_persist: bool,
        must_be_known: bool,
        encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>),
        actions: &mut Actions,
    ) {
        let connection = self.connection(id);
        let packet_bytes_max = connection.packet_bytes_max as usize;
        let mut bytes = Vec::new();
        encode(connection.version, &mut bytes);
        if bytes.len() > packet_bytes_max {
            self.close(now, id, Some(ReasonCode::PacketTooLarge), actions);
            return;
        }
        let earned = Earned::Encoded(bytes.into_boxed_slice());
        if must_be_known {
            self.acknowledge_announced(now, id, earned, must_persist, actions);
        } else {
            self.acknowledge(now, id, earned, must_persist, actions);
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
