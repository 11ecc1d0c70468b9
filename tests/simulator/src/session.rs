//! What one session may and must receive: its subscriptions over time and what came.
//! Knows no connection: a session lives through several.

use std::collections::BTreeMap;

use wire::{QoS, TopicFilter};

/// A time at which something never happens.
pub(crate) const NEVER: u64 = u64::MAX;

/// A filter that the session asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) filter: String,
    asked_at: u64,
    /// When UNSUBACK was read.
    pub(crate) gone_at: u64,
}

/// A subscription as long as it is certain: from SUBACK until the client asks for something else.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    pub(crate) filter: String,
    pub(crate) qos: QoS,
    /// SUBSCRIBE was written.
    pub(crate) asked_at: u64,
    /// SUBACK was read.
    pub(crate) from: u64,
    /// The filter was subscribed to or unsubscribed from again.
    pub(crate) until: u64,
    /// What it was owed is not owed any more.
    pub(crate) waived: bool,
    /// It was to be sent what is retained.
    pub(crate) wants_retained: bool,
}

impl Interval {
    pub(crate) fn matches(&self, topic: &str) -> bool {
        matches(&self.filter, topic)
    }

    /// Whether it is a member of `group` since before `at`, and to the end.
    pub(crate) fn mans(&self, group: &str, at: u64) -> bool {
        self.filter == *group && self.from < at && self.until == NEVER
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.filter.starts_with("$share/")
    }
}

pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    TopicFilter::parse(filter).expect("the scripts write valid filters").matches(topic)
}

/// What was received of one message.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Got {
    /// Copies for a live publish that were not marked as repeated.
    pub(crate) live_count: u32,
    /// Any copy for a live publish.
    pub(crate) is_live: bool,
    /// Any copy because of a subscription.
    pub(crate) is_retained: bool,
    /// Those of them that were not marked as repeated.
    pub(crate) retained_count: u32,
    /// Any copy.
    pub(crate) last_at: u64,
}

/// The books of one session.
#[derive(Clone, Default, Debug)]
pub(crate) struct Session {
    pub(crate) wishes: Vec<Wish>,
    /// By filter: when it was subscribed to or unsubscribed from last.
    asked: BTreeMap<String, Vec<(u64, Option<QoS>)>>,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) got: BTreeMap<u32, Got>,
    /// By topic, QoS of the publish and of the delivery: what came last in order.
    pub(crate) last_in_order: BTreeMap<(String, u8, u8), u64>,
    /// By topic and QoS of the delivery: the newest update of what is retained that came live.
    pub(crate) newest_update: BTreeMap<(String, u8), u64>,
    /// Since when its connection has not broken; 0: since ever, [`NEVER`]: it has none.
    pub(crate) unbroken_since: u64,
}

impl Session {
    pub(crate) fn subscribing(&mut self, filter: &str, qos: QoS, at: u64) {
        self.asked.entry(filter.into()).or_default().push((at, Some(qos)));
        self.wishes.push(Wish { filter: filter.into(), asked_at: at, gone_at: NEVER });
        for interval in self.current(filter) {
            interval.until = at;
        }
    }

    pub(crate) fn unsubscribing(&mut self, filter: &str, at: u64) {
        self.asked.entry(filter.into()).or_default().push((at, None));
        for interval in self.current(filter) {
            interval.until = at;
        }
        for interval in self.intervals.iter_mut().filter(|interval| interval.filter == filter) {
            interval.waived = true;
        }
    }

    pub(crate) fn unsubscribed(&mut self, filter: &str, asked_at: u64, at: u64) {
        for wish in &mut self.wishes {
            if wish.filter == filter && wish.asked_at < asked_at && wish.gone_at == NEVER {
                wish.gone_at = at;
            }
        }
    }

    /// When `filter` was subscribed to or unsubscribed from next after `at`, whether or not that is answered.
    pub(crate) fn asked_again(&self, filter: &str, at: u64) -> Option<u64> {
        self.asked.get(filter)?.iter().map(|(asked_at, _)| *asked_at).find(|&asked_at| asked_at > at)
    }

    /// The QoS of a subscription, or a lower one that it was changed to: a message that its publisher knows to be
    /// taken may still be on its way to the subscriber's shard.
    pub(crate) fn qos_of(&self, interval: &Interval) -> QoS {
        let asked = self.asked.get(&interval.filter).into_iter().flatten();
        let later = asked.filter(|(at, _)| *at >= interval.until).filter_map(|(_, qos)| *qos);
        later.fold(interval.qos, QoS::min)
    }

    fn current(&mut self, filter: &str) -> impl Iterator<Item = &mut Interval> {
        self.intervals.iter_mut().filter(move |interval| interval.filter == filter && interval.until == NEVER)
    }

    /// How many SUBSCRIBEs may have brought a message of `topic` that was published at `at`.
    pub(crate) fn wish_count(&self, topic: &str, at: u64) -> usize {
        self.wishes.iter().filter(|wish| wish.gone_at > at && matches(&wish.filter, topic)).count()
    }
}
