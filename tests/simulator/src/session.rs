//! The deliveries that one session may and must receive: its subscriptions over time and the received copies. A session
//! spans several connections.

use std::collections::BTreeMap;

use wire::{QoS, TopicFilter};

/// A time that is never reached.
pub(crate) const NEVER: u64 = u64::MAX;

/// A filter that the session subscribed to.
#[derive(Clone, Debug)]
pub(crate) struct SubscribeRequest {
    pub(crate) filter: String,
    requested_at: u64,
    /// When UNSUBACK was read.
    pub(crate) gone_at: u64,
}

/// A subscription during the time that it certainly exists: from SUBACK until the client changes it.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    pub(crate) filter: String,
    pub(crate) qos: QoS,
    /// When SUBSCRIBE was written.
    pub(crate) requested_at: u64,
    /// When SUBACK was read.
    pub(crate) from: u64,
    /// When the filter was subscribed to or unsubscribed from again.
    pub(crate) until: u64,
    /// Its deliveries are no longer required.
    pub(crate) waived: bool,
    /// The retained messages are required.
    pub(crate) wants_retained: bool,
}

impl Interval {
    pub(crate) fn matches(&self, topic: &str) -> bool {
        matches(&self.filter, topic)
    }

    /// Whether it has been a member of `group` since before `at`, until the end.
    pub(crate) fn is_member_of(&self, group: &str, at: u64) -> bool {
        self.filter == *group && self.from < at && self.until == NEVER
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.filter.starts_with("$share/")
    }
}

pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    TopicFilter::parse(filter).expect("the scripts write valid filters").matches(topic)
}

/// The received copies of one message.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ReceivedCopies {
    /// Copies of a live publish without DUP.
    pub(crate) live_count: u32,
    /// Copies of a live publish with QoS 2.
    pub(crate) exact_count: u32,
    /// Whether any copy was of a live publish.
    pub(crate) is_live: bool,
    /// Whether any copy was a retained message for a subscription.
    pub(crate) is_retained: bool,
    /// Retained copies without DUP.
    pub(crate) retained_count: u32,
    /// When the last copy was received.
    pub(crate) last_at: u64,
}

/// The subscriptions and received messages of one session.
#[derive(Clone, Default, Debug)]
pub(crate) struct Session {
    pub(crate) subscribe_requests: Vec<SubscribeRequest>,
    /// By filter: the times of its SUBSCRIBE and UNSUBSCRIBE packets.
    requested: BTreeMap<String, Vec<(u64, Option<QoS>)>>,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) received: BTreeMap<u32, ReceivedCopies>,
    /// By topic, QoS of the publish and QoS of the delivery: the last message in order, and when it came.
    pub(crate) last_in_order: BTreeMap<(String, u8, u8), (u64, u64)>,
    /// By topic and QoS of the delivery: the newest retained update that was received live.
    pub(crate) newest_update: BTreeMap<(String, u8), u64>,
    /// Start of the current connection; 0: it always existed, [`NEVER`]: there is none.
    pub(crate) unbroken_since: u64,
}

impl Session {
    pub(crate) fn subscribing(&mut self, filter: &str, qos: QoS, at: u64) {
        self.requested.entry(filter.into()).or_default().push((at, Some(qos)));
        self.subscribe_requests.push(SubscribeRequest {
            filter: filter.into(),
            requested_at: at,
            gone_at: NEVER,
        });
        for interval in self.current(filter) {
            interval.until = at;
        }
    }

    pub(crate) fn unsubscribing(&mut self, filter: &str, at: u64) {
        self.requested.entry(filter.into()).or_default().push((at, None));
        for interval in self.current(filter) {
            interval.until = at;
        }
        for interval in self.intervals.iter_mut().filter(|interval| interval.filter == filter) {
            interval.waived = true;
        }
    }

    pub(crate) fn unsubscribed(&mut self, filter: &str, requested_at: u64, at: u64) {
        for request in &mut self.subscribe_requests {
            if request.filter == filter && request.requested_at < requested_at && request.gone_at == NEVER {
                request.gone_at = at;
            }
        }
    }

    /// When `filter` was next subscribed to or unsubscribed from after `at`, answered or not.
    pub(crate) fn requested_again(&self, filter: &str, at: u64) -> Option<u64> {
        self.requested
            .get(filter)?
            .iter()
            .map(|(requested_at, _)| *requested_at)
            .find(|&requested_at| requested_at > at)
    }

    /// The QoS of a subscription, or a lower one that it was changed to: an acknowledged message may still be on its way
    /// to the subscriber's shard.
    pub(crate) fn qos_of(&self, interval: &Interval) -> QoS {
        let requested = self.requested.get(&interval.filter).into_iter().flatten();
        let later = requested.filter(|(at, _)| *at >= interval.until).filter_map(|(_, qos)| *qos);
        later.fold(interval.qos, QoS::min)
    }

    fn current(&mut self, filter: &str) -> impl Iterator<Item = &mut Interval> {
        self.intervals.iter_mut().filter(move |interval| interval.filter == filter && interval.until == NEVER)
    }

    /// Whether a subscription that matches `topic` was certainly there from `at` until `end`, with more than QoS 0.
    pub(crate) fn was_subscribed(&self, topic: &str, at: u64, end: u64) -> bool {
        let is_kept = |interval: &&Interval| {
            let requested = self.requested.get(&interval.filter).into_iter().flatten();
            let mut changes = requested.filter(|(at, _)| (interval.until..end).contains(at));
            changes.all(|(_, qos)| qos.is_some_and(|qos| qos > QoS::AtMostOnce))
        };
        let mut certain = self.intervals.iter().filter(|interval| {
            interval.from < at && interval.qos > QoS::AtMostOnce && interval.matches(topic)
        });
        certain.any(|interval| is_kept(&interval))
    }

    /// How many SUBSCRIBEs may have caused a delivery of a message on `topic` that was published at `at`.
    pub(crate) fn request_count(&self, topic: &str, at: u64) -> usize {
        self.subscribe_requests
            .iter()
            .filter(|request| request.gone_at > at && matches(&request.filter, topic))
            .count()
    }
}
