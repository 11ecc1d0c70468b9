//! `$SYS/broker/...`: the statistics of the broker as retained messages, under the names that mosquitto uses.
//! Only changed values are published, so that an idle broker sends nothing but its uptime and loads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use engine::{CauseGroup, DropReason, MemoryKind};

use crate::config::Config;
use crate::net::tls::{HandshakeCounts, HandshakeEnd};
use crate::observe::busy::BusyMeter;
use crate::observe::load_average::LoadAverage;
use crate::observe::statistics::{ShardReport, ShardTotals, Totals};
use crate::process::clock;
use crate::shard::gauges::JournalState;

/// One message: topic and payload.
pub(crate) type SysMessage = (String, String);

/// Selects one total over all shards.
type Total = fn(&ShardTotals) -> u64;

/// Totals whose load averages are published.
const LOADS: [(&str, Total); 9] = [
    ("messages/received", |sums| sums.packets_received),
    ("messages/sent", |sums| sums.packets_sent),
    ("publish/received", |sums| sums.messages_received),
    ("publish/sent", |sums| sums.messages_sent),
    ("publish/dropped", ShardTotals::dropped_total),
    ("bytes/received", |sums| sums.bytes_received),
    ("bytes/sent", |sums| sums.bytes_sent),
    ("sockets", |sums| sums.sockets_opened),
    ("connections", |sums| sums.connects_received),
];

/// The values that were published, to find those that changed.
#[derive(Debug)]
pub(crate) struct SysTopics {
    started: Instant,
    /// Values that do not change.
    constant: Vec<SysMessage>,
    published: BTreeMap<String, String>,
    clients_max: u64,
    loads: [LoadAverage; LOADS.len()],
    /// Time of the last call.
    seen: Instant,
    busy: BusyMeter,
}

impl SysTopics {
    /// Starts with no published value; the uptime counts from now.
    pub(crate) fn start(config: &Config) -> Self {
        let now = clock::read();
        let broker = ("$SYS/broker/durability".to_owned(), config.durability.name().to_owned());
        let listeners = config.listeners.iter().filter_map(|listener| {
            let (name, durability) = (topic_level(&listener.name), listener.durability?);
            Some((format!("$SYS/broker/durability/{name}"), durability.name().to_owned()))
        });
        Self {
            started: now,
            constant: std::iter::once(broker).chain(listeners).collect(),
            published: BTreeMap::new(),
            clients_max: 0,
            loads: Default::default(),
            seen: now,
            busy: BusyMeter::default(),
        }
    }

    /// Passes the changed values to `publish`, which returns those it took. The others are passed again by the next
    /// call.
    pub(crate) fn publish_changed(
        &mut self,
        totals: (&Totals, HandshakeCounts),
        shards: &[ShardReport],
        publish: impl FnOnce(Vec<SysMessage>) -> Vec<SysMessage>,
    ) {
        let mut changed = self.all(totals, shards);
        changed.retain(|(topic, payload)| self.published.get(topic) != Some(payload));
        self.published.extend(publish(changed));
    }

    fn all(
        &mut self,
        (totals, handshakes): (&Totals, HandshakeCounts),
        shards: &[ShardReport],
    ) -> Vec<SysMessage> {
        let now = clock::read();
        let sums = &totals.shards;
        self.clients_max = self.clients_max.max(sums.sessions);
        let mut messages = self.constant.clone();
        messages.extend([
            ("$SYS/broker/version".to_owned(), format!("mqtt-broker version {}", env!("CARGO_PKG_VERSION"))),
            (
                "$SYS/broker/uptime".to_owned(),
                format!("{} seconds", now.duration_since(self.started).as_secs()),
            ),
        ]);
        if totals.journal != JournalState::None {
            messages.push(("$SYS/broker/journal".to_owned(), totals.journal.name().to_owned()));
        }
        let mut add = |name: &str, number: u64| {
            messages.push((format!("$SYS/broker/{name}"), number.to_string()));
        };
        add_totals(sums, self.clients_max, &mut add);
        for (name, count) in HandshakeEnd::NAMES.into_iter().zip(handshakes) {
            add(&format!("tls/handshakes/{name}"), count);
        }
        add_memory(totals, &mut add);
        for (group, unanswered) in [
            (CauseGroup::TooManyConnections, totals.connections_unanswered),
            (CauseGroup::AddressLimit, totals.addresses_unanswered),
            (CauseGroup::Banned, totals.banned_unanswered),
        ] {
            let refused = sums.refused[group.index()] + unanswered;
            add(&format!("clients/refused/{}", group.name()), refused);
        }
        add("bans/count", totals.bans);
        let percents = self.busy.percents(shards);
        for (number, (ShardReport { totals, .. }, busy_percent)) in shards.iter().zip(percents).enumerate() {
            let mut prefix = String::new();
            let _ = write!(prefix, "shard/{number}/");
            for (name, number) in [
                ("connections", totals.connections),
                ("sessions", totals.sessions),
                ("messages/received", totals.messages_received),
                ("messages/sent", totals.messages_sent),
                ("messages/crossed", totals.messages_forwarded),
                ("turns", totals.turns),
                ("parked_wakes", totals.parked_wakes),
            ] {
                add(&format!("{prefix}{name}"), number);
            }
            if let Some(busy_percent) = busy_percent {
                add(&format!("{prefix}busy_percent"), busy_percent);
            }
        }
        for (load, (name, total)) in self.loads.iter_mut().zip(LOADS) {
            load.update(total(sums), now.duration_since(self.seen));
            messages.extend(
                load.formatted()
                    .map(|(window, average)| (format!("$SYS/broker/load/{name}/{window}"), average)),
            );
        }
        self.seen = now;
        messages
    }
}

/// A name as a level of a topic.
fn topic_level(name: &str) -> String {
    name.replace(['/', '+', '#'], "_")
}

/// Adds the bytes held, their ceiling, and each kind.
fn add_memory(totals: &Totals, add: &mut impl FnMut(&str, u64)) {
    add("memory/used", totals.shards.memory_total());
    add("memory/limit", totals.memory_bytes_max);
    for kind in MemoryKind::ALL {
        add(&format!("memory/{}", kind.name()), totals.shards.memory[kind.index()]);
    }
}

/// Whether connections may be refused for this group of causes before an engine knows them.
fn is_counted_beside(group: CauseGroup) -> bool {
    matches!(group, CauseGroup::TooManyConnections | CauseGroup::AddressLimit | CauseGroup::Banned)
}

/// Adds the totals over all shards.
fn add_totals(sums: &ShardTotals, clients_max: u64, add: &mut impl FnMut(&str, u64)) {
    add("clients/connected", sums.attached);
    add("clients/disconnected", sums.sessions.saturating_sub(sums.attached));
    add("clients/total", sums.sessions);
    add("clients/maximum", clients_max);
    add("clients/expired", sums.sessions_expired);
    add("clients/closed_by_operator", sums.closed_by_operator);
    add("messages/received", sums.packets_received);
    add("messages/sent", sums.packets_sent);
    add("bytes/received", sums.bytes_received);
    add("bytes/sent", sums.bytes_sent);
    add("subscriptions/count", sums.subscriptions);
    add("subscriptions/refused/match_nodes", sums.filters_refused);
    add("shared_subscriptions/count", sums.shared_subscriptions);
    add("retained messages/count", sums.retained_messages);
    add("retained messages/expired", sums.retained_expired);
    add("retained messages/refused", sums.retained_refused);
    add("store/messages/count", sums.stored_messages);
    add("store/messages/bytes", sums.stored_bytes);
    add("publish/messages/received", sums.messages_received);
    add("publish/messages/sent", sums.messages_sent);
    add("publish/messages/dropped", sums.dropped_total());
    add("publish/bytes/received", sums.payload_bytes_received);
    add("publish/bytes/sent", sums.payload_bytes_sent);
    add("publish/messages/refused/no_room", sums.publishes_refused);
    add("publish/messages/refused/not_authorized", sums.publishes_denied);
    add("publish/messages/refused/forbidden", sums.publishes_forbidden);
    add("publish/messages/refused/will_forbidden", sums.wills_forbidden);
    add("publish/rate_pauses", sums.rate_pauses);
    add("publish/journal_waits", sums.log_waits);
    add("publish/messages/unreadable", sums.reads_denied);
    add("retained messages/unread", sums.retained_unread);
    add("subscriptions/refused/forbidden", sums.subscriptions_forbidden);
    add("publish/nodes_visited", sums.topic_nodes_visited);
    add("publish/long_matches", sums.long_matches);
    add("clients/closed_for_memory", sums.closed[CauseGroup::Memory.index()]);
    for group in CauseGroup::ALL {
        if group.may_close() {
            add(&format!("clients/closed/{}", group.name()), sums.closed[group.index()]);
        }
        // Except those of which some have no answer and are counted beside the engines.
        if group.may_refuse() && !is_counted_beside(*group) {
            add(&format!("clients/refused/{}", group.name()), sums.refused[group.index()]);
        }
    }
    for reason in DropReason::ALL {
        add(&format!("messages/dropped/{}", reason.name()), sums.dropped[reason.index()]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_load_is_published_from_the_start_and_follows_its_own_total() {
        for (at, (name, _)) in LOADS.iter().enumerate() {
            let mut topics = SysTopics::start(&Config::default());
            let mut loads = |shards: ShardTotals, elapsed| {
                topics.seen -= elapsed;
                let all =
                    topics.all((&Totals { shards, ..Totals::default() }, HandshakeCounts::default()), &[]);
                all.into_iter()
                    .filter(|(topic, _)| topic.starts_with("$SYS/broker/load/"))
                    .collect::<Vec<_>>()
            };
            let minute = Duration::from_mins(1);
            let none = loads(ShardTotals::default(), minute);
            assert_eq!(none.len(), 27);
            assert!(none.iter().all(|(_, average)| average == "0.00"), "{none:?}");
            let mut sums = ShardTotals::default();
            *[
                &mut sums.packets_received,
                &mut sums.packets_sent,
                &mut sums.messages_received,
                &mut sums.messages_sent,
                &mut sums.dropped[DropReason::QueueFull.index()],
                &mut sums.bytes_received,
                &mut sums.bytes_sent,
                &mut sums.sockets_opened,
                &mut sums.connects_received,
            ][at] = 1_000_000;
            let published = loads(sums, minute);
            let moved: Vec<&str> = published
                .iter()
                .filter(|(_, average)| average != "0.00")
                .map(|(topic, _)| &**topic)
                .collect();
            let expected =
                ["1min", "5min", "15min"].map(|window| format!("$SYS/broker/load/{name}/{window}"));
            assert_eq!(moved, expected);
            // 1 - 1/e of a million, or less on a slow machine.
            let average: f64 =
                published.iter().find(|(topic, _)| *topic == expected[0]).unwrap().1.parse().unwrap();
            assert!((300_000.0..=632_121.0).contains(&average), "{average}");
        }
    }

    #[test]
    fn changes_are_published_and_retried_until_taken() {
        let mut topics = SysTopics::start(&Config::default());
        let totals = |messages_sent| Totals {
            shards: ShardTotals { messages_sent, ..ShardTotals::default() },
            ..Totals::default()
        };
        let mut add = |sent, is_taken| {
            let mut published = Vec::new();
            topics.publish_changed((&totals(sent), HandshakeCounts::default()), &[], |messages| {
                published.clone_from(&messages);
                if is_taken { messages } else { Vec::new() }
            });
            // Values that change with time are not part of this test.
            published.retain(|(topic, _)| {
                topic != "$SYS/broker/uptime" && !topic.starts_with("$SYS/broker/load/")
            });
            published
        };
        assert!(add(1, true).len() > 25);
        assert_eq!(add(1, true), []);
        let changed = [("$SYS/broker/publish/messages/sent".to_owned(), "2".to_owned())];
        assert_eq!(add(2, false), changed);
        assert_eq!(add(2, true), changed);
        assert_eq!(add(2, true), []);
    }
}
