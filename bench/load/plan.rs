//! The clients of each scenario: subscriptions and published streams.

use clap::ValueEnum;
use wire::QoS;

/// The kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// Each publisher has its own topic and subscriber.
    Pairs,
    /// One publisher, `count` subscribers.
    FanOut,
    /// `count` publishers, one subscriber to everything.
    FanIn,
    /// Ten publishers, one group of `count` members.
    Shared,
    /// `count` subscribers with ten filters of + and # each; a publish matches about ten of them.
    Wildcards,
    /// `count` connections that all publish and all subscribe: each receives from the one before it.
    Mixed,
    /// `count` silent connections with one subscription: memory.
    Idle,
    /// Connections that open and close, `count` at a time: a cycle is TCP, CONNECT, CONNACK, DISCONNECT.
    Churn,
    /// `count` retained messages, fetched repeatedly by new subscriptions to all of them.
    Retained,
    /// Like `fan_out`, with one more subscriber that never reads.
    SlowReader,
    /// QoS 1 to `count` sessions of offline clients, which then reconnect to receive it.
    Persistent,
}

/// One client of the load.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientPlan {
    pub(crate) name: String,
    pub(crate) filters: Vec<String>,
    /// Messages to this client are counted for this consumer: the members of a group are one.
    pub(crate) consumer: u32,
    /// The client never reads.
    pub(crate) stalls: bool,
}

/// Messages of one topic, numbered in their order.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) topic: String,
    /// The client that publishes it.
    pub(crate) client: usize,
    /// Deliveries required for each message.
    pub(crate) receivers: u64,
}

/// A load with its clients and streams.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) qos: QoS,
    /// Whether messages of a stream reach each consumer in order.
    pub(crate) is_ordered: bool,
}

/// Publishers of a group.
const GROUP_PUBLISHERS: usize = 10;
const WILDCARD_STREAMS: usize = 1000;

impl Plan {
    /// The clients and streams of a scenario with a steady stream.
    pub(crate) fn new(scenario: Scenario, count: usize, qos: QoS) -> Self {
        let mut plan = Self { clients: Vec::new(), streams: Vec::new(), qos, is_ordered: true };
        match scenario {
            Scenario::Pairs => {
                for pair in 0..count {
                    plan.subscriber(vec![format!("load/{pair}")]);
                }
                for pair in 0..count {
                    let client = plan.client("publisher");
                    plan.stream(client, format!("load/{pair}"), 1);
                }
            }
            Scenario::FanOut | Scenario::SlowReader => {
                for _ in 0..count {
                    plan.subscriber(vec!["load/0".to_owned()]);
                }
                if scenario == Scenario::SlowReader {
                    let slow = plan.subscriber(vec!["load/0".to_owned()]);
                    plan.clients[slow].stalls = true;
                }
                let client = plan.client("publisher");
                plan.stream(client, "load/0".to_owned(), count as u64);
            }
            Scenario::FanIn => {
                plan.subscriber(vec!["#".to_owned()]);
                for number in 0..count {
                    let client = plan.client("publisher");
                    plan.stream(client, format!("load/{number}"), 1);
                }
            }
            Scenario::Shared => {
                for _ in 0..count {
                    let member = plan.subscriber(vec!["$share/group/load/#".to_owned()]);
                    plan.clients[member].consumer = 0;
                }
                plan.is_ordered = false;
                for number in 0..GROUP_PUBLISHERS {
                    let client = plan.client("publisher");
                    plan.stream(client, format!("load/{number}"), 1);
                }
            }
            Scenario::Wildcards => plan.wildcards(count),
            Scenario::Mixed => {
                for number in 0..count {
                    let before = (number + count - 1) % count;
                    let client = plan.subscriber(vec![format!("load/{before}")]);
                    plan.stream(client, format!("load/{number}"), 1);
                }
            }
            Scenario::Idle | Scenario::Churn | Scenario::Retained | Scenario::Persistent => {
                unreachable!("{scenario:?} sends no steady stream")
            }
        }
        plan
    }

    fn client(&mut self, role: &str) -> usize {
        let number = self.clients.len();
        let consumer = u32::try_from(number).expect("fewer clients than ports");
        self.clients.push(ClientPlan { name: format!("{role}-{number}"), consumer, ..ClientPlan::default() });
        number
    }

    fn subscriber(&mut self, filters: Vec<String>) -> usize {
        let client = self.client("subscriber");
        self.clients[client].filters = filters;
        client
    }

    fn stream(&mut self, client: usize, topic: String, receivers: u64) {
        self.streams.push(Stream { topic, client, receivers });
    }

    /// Topics are `load/REGION/SITE/KIND/DEVICE`; each subscriber subscribes to ten sets of them, by + and #.
    fn wildcards(&mut self, count: usize) {
        let mut filters_of = Vec::new();
        for number in 0..count {
            let filters: Vec<String> = (0..10)
                .map(|filter| {
                    // Each form has a third of all filters, spread over a thousand pairs of levels.
                    let form = number * 10 + filter;
                    let (level, site) = (form / 3 % 10, form / 30 % 100);
                    match form % 3 {
                        0 => format!("load/{level}/{site}/+/+"),
                        1 => format!("load/{level}/{site}/#"),
                        _ => format!("load/+/{site}/{level}/+"),
                    }
                })
                .collect();
            self.subscriber(filters.clone());
            filters_of.push(filters);
        }
        let publishers: Vec<usize> = (0..50).map(|_| self.client("publisher")).collect();
        for number in 0..WILDCARD_STREAMS {
            let (region, site, kind) = (number % 10, number / 10 % 100, number / 7 % 10);
            let topic = format!("load/{region}/{site}/{kind}/{number}");
            let receivers = filters_of
                .iter()
                .filter(|filters| filters.iter().any(|filter| matches(filter, &topic)))
                .count();
            if receivers > 0 {
                self.stream(publishers[number % publishers.len()], topic, receivers as u64);
            }
        }
    }

    /// Required deliveries of one message, on average over the streams.
    #[expect(clippy::cast_precision_loss, reason = "a figure to be read")]
    pub(crate) fn receivers_mean(&self) -> f64 {
        let total: u64 = self.streams.iter().map(|stream| stream.receivers).sum();
        total as f64 / self.streams.len().max(1) as f64
    }
}

/// Whether a filter matches a topic. Only for the generator's own names, none of which begins with $.
fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (Some(_) | None, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_in_the_standard() {
        assert!(matches("a/+/#", "a/b") && matches("a/#", "a") && matches("a/+", "a/b"));
        assert!(!matches("a/+", "a") && !matches("a/b", "a/b/c") && !matches("a/+", "a/b/c"));
    }

    #[test]
    fn a_publish_of_the_wildcard_scenario_matches_about_ten_subscribers() {
        let plan = Plan::new(Scenario::Wildcards, 1000, QoS::AtMostOnce);
        let mean = plan.receivers_mean();
        assert!((5.0..15.0).contains(&mean), "{mean} receivers, {} streams", plan.streams.len());
    }

    #[test]
    fn each_mixed_client_receives_from_one_and_sends_to_one() {
        let plan = Plan::new(Scenario::Mixed, 100, QoS::AtMostOnce);
        assert_eq!((plan.clients.len(), plan.streams.len()), (100, 100));
        for client in &plan.clients {
            assert_eq!(
                plan.streams.iter().filter(|stream| client.filters.contains(&stream.topic)).count(),
                1
            );
        }
    }
}
