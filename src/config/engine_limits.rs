//! The configuration as limits for the engine of one shard. Limits of the process are divided by the number of shards
//! and rounded up, so that no shard has a limit of zero that was not configured.

use engine::{ClientIdSource, Limits, ListenerLimits, Rates};
use wire::QoS;

use super::auth::JwtFrom;
use super::limits::OnRate;
use super::listener::{ClientIdFrom, ClientIdMismatch};
use super::rules::{DeniedPublish, DeniedSubscribe};
use super::{Config, Durability, ListenerConfig};
use crate::auth::{JWT_METHOD, SCRAM_METHOD, TEST_METHOD};

impl Config {
    /// The limits of each listener, as far as one differs from the broker's.
    fn listener_limits(&self) -> Vec<ListenerLimits> {
        let limits = |listener: &ListenerConfig| ListenerLimits {
            // A ban by client identifier has to be known before a client is let in.
            judged: listener.judges() || self.bans.as_ref().is_some_and(|bans| bans.flapping_max > 0),
            rates: self.rates(listener),
            packet_bytes_max: listener.packet_bytes_max,
            maximum_qos: listener.maximum_qos.map(qos),
            client_id_source: match listener.tls.as_ref().map(|tls| tls.client_id_from) {
                None | Some(ClientIdFrom::Connect) => ClientIdSource::Connect,
                Some(ClientIdFrom::Username) => ClientIdSource::UserName,
                Some(ClientIdFrom::Cn) => ClientIdSource::Identity,
            },
            replaces_client_id: listener
                .tls
                .as_ref()
                .is_some_and(|tls| tls.client_id_mismatch == ClientIdMismatch::Replace),
            acknowledge_written: listener.durability.map(|durability| durability == Durability::Process),
        };
        let listeners: Vec<_> = self.listeners.iter().map(limits).collect();
        let differs = listeners.iter().any(|limits| *limits != ListenerLimits::default());
        if differs { listeners } else { Vec::new() }
    }

    /// The rates at which clients of a listener may publish, if they are limited.
    fn rates(&self, listener: &ListenerConfig) -> Option<Rates> {
        let rates = Rates {
            messages: listener.publish_rate.unwrap_or(self.publish_rate),
            bytes: listener.publish_bytes_rate.unwrap_or(self.publish_bytes_rate),
            burst_s: listener.burst_s.unwrap_or(self.burst_s),
            on_rate: match listener.on_rate.unwrap_or(self.on_rate) {
                OnRate::Pause => engine::OnRate::Pause,
                OnRate::Disconnect => engine::OnRate::Disconnect,
            },
        };
        (rates.messages > 0 || rates.bytes > 0).then_some(rates)
    }

    /// Limits for the engine of one shard. Limits of the process are divided among `shard_count` shards.
    pub(crate) fn engine_limits(&self, shard_count: u16) -> Limits {
        let rules = self.rules.as_ref().map(|rules| rules.table.clone()).unwrap_or_default();
        Limits {
            packet_bytes_max: self.packet_bytes_max,
            connect_bytes_max: self.connect_bytes_max,
            unjudged_bytes_max: self.unjudged_bytes_max.div_ceil(shard_count.into()),
            receive_maximum: self.receive_maximum,
            inflight_max: self.inflight_max,
            queue_messages_max: self.queue_messages_max,
            queue_bytes_max: self.queue_bytes_max,
            queue_full: self.queue_full,
            queue_qos0_offline: self.queue_qos0_offline,
            outbox_bytes_max: self.outbox_bytes_max,
            topic_alias_maximum: self.topic_alias_maximum,
            topic_alias_outgoing_max: self.topic_alias_outgoing_max,
            alias_bytes_max: self.alias_bytes_max,
            keep_alive_s_max: self.keep_alive_s_max,
            connect_timeout_ms: u32::from(self.connect_timeout_s) * 1_000,
            default_session_expiry_s: self.default_session_expiry_s,
            session_expiry_s_max: self.session_expiry_s_max,
            sessions_max: self.sessions_max.div_ceil(shard_count.into()),
            subscriptions_per_session_max: self.subscriptions_per_session_max,
            match_nodes_max: self.match_nodes_max,
            topic_levels_max: self.topic_levels_max,
            client_id_bytes_max: self.client_id_bytes_max,
            retained_messages_max: self.retained_messages_max.div_ceil(shard_count.into()),
            retained_bytes_max: self.retained_bytes_max.div_ceil(shard_count.into()),
            // The ceiling of the process: a shard may use what others do not.
            memory_bytes_max: self.memory_bytes_max.bytes(),
            wildcard_subscriptions: self.wildcard_subscriptions,
            shared_subscriptions: self.shared_subscriptions,
            subscription_identifiers: self.subscription_identifiers,
            retain_available: self.retain_available,
            maximum_qos: qos(self.maximum_qos),
            assigned_client_ids: self.assigned_client_ids,
            check_payload_format: self.check_payload_format,
            response_topic_prefix: self.response_topic_prefix.as_str().into(),
            server_reference: self.server_reference.as_str().into(),
            redirect: self.redirect,
            listeners: self.listener_limits(),
            session_owner: self.session_owner,
            authentication_methods: self.authentication_methods(),
            authentication_bytes_max: self.authentication_bytes_max,
            denied_publish_closes: rules.denied_publish == DeniedPublish::Disconnect,
            denied_subscribe_accepted: rules.denied_subscribe == DeniedSubscribe::Accept,
            tell_shard: self.tell_shard,
            acknowledge_written: self.durability == Durability::Process,
            ..Limits::default()
        }
    }

    /// Methods of enhanced authentication that some listener may have.
    fn authentication_methods(&self) -> Vec<Box<str>> {
        let by_method = self.auth.jwt.as_ref().is_some_and(|jwt| jwt.from == JwtFrom::Method);
        let methods = [
            (self.test_authentication, TEST_METHOD),
            (self.auth.scram.is_some(), SCRAM_METHOD),
            (by_method, JWT_METHOD),
        ];
        methods.into_iter().filter(|(is_used, _)| *is_used).map(|(_, name)| name.into()).collect()
    }
}

fn qos(number: u16) -> QoS {
    let qos = u8::try_from(number).ok().and_then(QoS::from_bits);
    qos.expect("the tables of settings permit only 0 to 2")
}

#[cfg(test)]
mod tests {
    use super::super::auth::AuthMethod;
    use super::super::value::Anonymous;
    use super::*;

    #[test]
    fn the_defaults_of_the_file_are_those_of_the_engine() {
        assert_eq!(format!("{:?}", Config::default().engine_limits(1)), format!("{:?}", Limits::default()));
    }

    #[test]
    fn a_listener_judges_its_clients_unless_it_lets_everybody_in() {
        let judged = |anonymous, auth| {
            let mut config = Config::default();
            config.listeners[0].anonymous = anonymous;
            config.listeners[0].auth = auth;
            config.engine_limits(1).listeners.iter().map(|listener| listener.judged).collect::<Vec<_>>()
        };
        assert_eq!(judged(Anonymous::Auto, None), [false; 0]);
        assert_eq!(judged(Anonymous::Refused, None), [true]);
        assert_eq!(judged(Anonymous::Allowed, Some(vec![AuthMethod::Password])), [true]);
    }

    #[test]
    fn a_listener_has_the_rates_of_the_broker_unless_it_has_its_own() {
        let rates = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            let listeners = config.engine_limits(1).listeners;
            listeners.first().and_then(|listener| listener.rates)
        };
        assert_eq!(rates(|_| {}), None);
        let expected = Rates { messages: 7, bytes: 0, burst_s: 2, on_rate: engine::OnRate::Pause };
        assert_eq!(rates(|config| config.publish_rate = 7), Some(expected));
        let own = rates(|config| {
            config.publish_rate = 7;
            let listener = &mut config.listeners[0];
            listener.publish_rate = Some(0);
            listener.publish_bytes_rate = Some(9);
            listener.burst_s = Some(3);
            listener.on_rate = Some(OnRate::Disconnect);
        });
        let expected = Rates { messages: 0, bytes: 9, burst_s: 3, on_rate: engine::OnRate::Disconnect };
        assert_eq!(own, Some(expected));
        assert_eq!(rates(|config| config.listeners[0].publish_bytes_rate = Some(0)), None);
    }

    #[test]
    fn process_limits_are_divided_and_never_rounded_to_zero() {
        let config = Config { retained_messages_max: 10, retained_bytes_max: 1, ..Config::default() };
        let limits = config.engine_limits(3);
        assert_eq!((limits.retained_messages_max, limits.retained_bytes_max), (4, 1));
    }
}
