//! Sessions as they outlive the process: the records that the host writes and gives back.

use alloc::string::String;
use alloc::vec::Vec;

use wire::{QoS, RetainHandling, SubscribeOptions, SubscriptionId, TopicFilter};

use crate::topic::members::Member;
use crate::topic::subscriptions::plain_options;

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

/// The time that a session outlives its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionExpiry {
    /// Session Expiry Interval in seconds, from 1 on; `u32::MAX` never ends.
    pub interval_s: u32,
    /// Whole seconds of it that have passed without a connection; 0 with one.
    pub passed_s: u32,
}

/// A session that outlives its connection, and its subscriptions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRecord {
    /// Client identifier.
    pub client_id: String,
    /// The name of the user that it belongs to; `None` for nobody.
    pub user: Option<String>,
    /// Its expiry; `None` stands for `Limits::default_session_expiry_s`, none of which has passed.
    pub expiry: Option<SessionExpiry>,
    /// Its subscriptions, in no particular order.
    pub subscriptions: Vec<SubscriptionRecord>,
}

impl SubscriptionRecord {
    pub(crate) fn new(share_name: Option<&str>, filter: &str, member: &Member) -> Self {
        let mut topic_filter = String::new();
        if let Some(name) = share_name {
            topic_filter.push_str("$share/");
            topic_filter.push_str(name);
            topic_filter.push('/');
        }
        topic_filter.push_str(filter);
        let options = member.options();
        Self {
            topic_filter,
            qos: options.qos.bits(),
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling as u8,
            subscription_identifier: member.identifier().map(SubscriptionId::get),
        }
    }

    /// Its filter, options and identifier.
    ///
    /// # Errors
    /// The filter and what is wrong with it or its options.
    pub(crate) fn parse(
        &self,
    ) -> Result<(TopicFilter<'_>, SubscribeOptions, Option<SubscriptionId>), String> {
        let filter = TopicFilter::parse(&self.topic_filter)
            .map_err(|malformed| alloc::format!("{:?}: {malformed}", self.topic_filter))?;
        let options = options_of(self)
            .ok_or_else(|| alloc::format!("{:?}: QoS or retain handling above 2", self.topic_filter))?;
        Ok((filter, options, self.subscription_identifier.and_then(SubscriptionId::new)))
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
