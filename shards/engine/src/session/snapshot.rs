//! Sessions as they outlive the process: what is written and read back.
//! Knows no file; the host writes what it is given and gives back what it read.

use alloc::string::String;
use alloc::vec::Vec;

use wire::{QoS, RetainHandling, SubscribeOptions, SubscriptionId, TopicFilter};

use crate::base::time::Instant;
use crate::engine::Engine;
use crate::session::table::identifier_number;
use crate::timer::Timer;
use crate::topic::tree::plain_options;

/// One subscription of a session that outlives its connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionRecord {
    /// The whole filter, with `$share/name/` where it is shared.
    pub topic_filter: String,
    /// Granted QoS, 0 to 2.
    pub qos: u8,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling, 0 to 2.
    pub retain_handling: u8,
    /// Subscription Identifier, if it has one.
    pub subscription_identifier: Option<u32>,
}

/// A session that outlives its connection, and what it subscribes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRecord {
    /// Client identifier.
    pub client_id: String,
    /// Its subscriptions, in no particular order.
    pub subscriptions: Vec<SubscriptionRecord>,
}

impl Engine {
    /// Grows whenever what [`Engine::export`] returns has changed.
    #[must_use]
    pub fn records_version(&self) -> u64 {
        self.records_version
    }

    /// The sessions with subscriptions that outlive their connection, `sessions_max` slots from `from`
    /// on. Returns where the next call goes on, or `None` at the end.
    pub fn export(&self, from: u32, sessions_max: u32, records: &mut Vec<SessionRecord>) -> Option<u32> {
        let end = from.saturating_add(sessions_max).min(self.delivery.sessions.slot_count());
        for index in from..end {
            let Some(session) = self.delivery.sessions.at(index) else { continue };
            if !session.is_persistent() || session.subscriptions.count == 0 {
                continue;
            }
            let mut subscriptions = Vec::with_capacity(session.subscriptions.count as usize);
            self.tree.for_each(session.subscriptions, |share_name, filter, member| {
                let mut topic_filter = String::new();
                if let Some(name) = share_name {
                    topic_filter.push_str("$share/");
                    topic_filter.push_str(name);
                    topic_filter.push('/');
                }
                topic_filter.push_str(filter);
                subscriptions.push(SubscriptionRecord {
                    topic_filter,
                    qos: member.options.qos.bits(),
                    no_local: member.options.no_local,
                    retain_as_published: member.options.retain_as_published,
                    retain_handling: member.options.retain_handling as u8,
                    subscription_identifier: identifier_number(member.identifier),
                });
            });
            records.push(SessionRecord { client_id: session.client_id.as_str().into(), subscriptions });
        }
        (end < self.delivery.sessions.slot_count()).then_some(end)
    }

    /// Brings a session back as it was exported, offline, with the default session expiry interval.
    ///
    /// # Errors
    /// The topic filter that cannot be used; nothing of that session is kept then.
    ///
    /// # Panics
    /// If the engine's own tables contradict each other.
    pub fn restore(&mut self, now: Instant, record: &SessionRecord) -> Result<(), String> {
        let mut parsed = Vec::with_capacity(record.subscriptions.len());
        for subscription in &record.subscriptions {
            let filter = TopicFilter::parse(&subscription.topic_filter)
                .map_err(|malformed| alloc::format!("{:?}: {malformed}", subscription.topic_filter))?;
            let options = options_of(subscription).ok_or_else(|| {
                alloc::format!("{:?}: QoS or retain handling above 2", subscription.topic_filter)
            })?;
            parsed.push((
                filter,
                options,
                subscription.subscription_identifier.and_then(SubscriptionId::new),
            ));
        }
        if self.session_of(&record.client_id).is_some() {
            return Ok(());
        }
        let id = self.new_session(&record.client_id);
        let expiry_interval_s = self.delivery.limits.default_session_expiry_s.max(1);
        let timer = Self::interval_end(now, expiry_interval_s)
            .map(|deadline| self.wheel.insert(deadline, Timer::SessionExpiry(id)));
        let session = self.delivery.sessions.get_mut(id.0).expect("made a moment ago");
        session.expiry_interval_s = expiry_interval_s;
        session.expiry_timer = timer;
        for (filter, options, identifier) in &parsed {
            self.tree.subscribe(&mut session.subscriptions, id.0.index(), filter, *options, *identifier);
        }
        Ok(())
    }
}

fn options_of(record: &SubscriptionRecord) -> Option<SubscribeOptions> {
    let retain_handling = match record.retain_handling {
        0 => RetainHandling::SendAtSubscribe,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return None,
    };
    Some(SubscribeOptions {
        no_local: record.no_local,
        retain_as_published: record.retain_as_published,
        retain_handling,
        ..plain_options(QoS::from_bits(record.qos)?)
    })
}
