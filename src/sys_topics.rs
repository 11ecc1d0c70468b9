//! `$SYS/broker/...`: what the broker says of itself to its clients, under the names that mosquitto's users know.
//! Counts nothing: the shards do. Knows no client and no subscription.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use engine::DropReason;

use crate::clock;
use crate::statistics::{ShardReport, Totals, percent};

/// One message: its topic and its payload.
pub(crate) type SysMessage = (String, String);

/// What clients were told, so that only what changed is told again.
#[derive(Debug)]
pub(crate) struct SysTopics {
    started: Instant,
    told: BTreeMap<String, String>,
    clients_max: u64,
    /// When the shards were last looked at, and the time that each had then been busy.
    seen: Instant,
    busy: Vec<Duration>,
}

impl SysTopics {
    /// Nothing was told; the broker starts now.
    pub(crate) fn start() -> Self {
        let now = clock::read();
        Self { started: now, told: BTreeMap::new(), clients_max: 0, seen: now, busy: Vec::new() }
    }

    /// Has `publish` publish what changed since the last time; what that could not take is told the next time.
    pub(crate) fn tell(
        &mut self,
        totals: &Totals,
        shards: &[ShardReport],
        publish: impl FnOnce(Vec<SysMessage>) -> Vec<SysMessage>,
    ) {
        let mut changed = self.all(totals, shards);
        changed.retain(|(topic, payload)| self.told.get(topic) != Some(payload));
        self.told.extend(publish(changed));
    }

    fn all(&mut self, totals: &Totals, shards: &[ShardReport]) -> Vec<SysMessage> {
        let now = clock::read();
        let sums = &totals.shards;
        self.clients_max = self.clients_max.max(sums.sessions);
        let mut messages = vec![
            ("$SYS/broker/version".to_owned(), format!("mqtt-broker version {}", env!("CARGO_PKG_VERSION"))),
            (
                "$SYS/broker/uptime".to_owned(),
                format!("{} seconds", now.duration_since(self.started).as_secs()),
            ),
        ];
        let mut tell = |name: &str, number: u64| {
            messages.push((format!("$SYS/broker/{name}"), number.to_string()));
        };
        tell("clients/connected", sums.attached);
        tell("clients/disconnected", sums.sessions.saturating_sub(sums.attached));
        tell("clients/total", sums.sessions);
        tell("clients/maximum", self.clients_max);
        tell("clients/expired", sums.sessions_expired);
        tell("clients/closed_by_operator", sums.closed_by_operator);
        tell("messages/received", sums.packets_received);
        tell("messages/sent", sums.packets_sent);
        tell("bytes/received", sums.bytes_received);
        tell("bytes/sent", sums.bytes_sent);
        tell("subscriptions/count", sums.subscriptions);
        tell("shared_subscriptions/count", sums.shared_subscriptions);
        tell("retained messages/count", sums.retained_messages);
        tell("retained messages/expired", sums.retained_expired);
        tell("store/messages/count", sums.stored_messages);
        tell("store/messages/bytes", sums.stored_bytes);
        tell("publish/messages/received", sums.messages_received);
        tell("publish/messages/sent", sums.messages_sent);
        tell("publish/messages/dropped", sums.dropped_total());
        tell("publish/bytes/received", sums.payload_bytes_received);
        tell("publish/bytes/sent", sums.payload_bytes_sent);
        tell("publish/messages/refused/no_room", sums.publishes_refused);
        tell("publish/messages/refused/not_authorized", sums.publishes_denied);
        for reason in DropReason::ALL {
            tell(&format!("messages/dropped/{}", reason.name()), sums.dropped[reason.index()]);
        }
        self.busy.resize(shards.len(), Duration::ZERO);
        for (number, ShardReport { totals, busy }) in shards.iter().enumerate() {
            let mut prefix = String::new();
            let _ = write!(prefix, "shard/{number}/");
            for (name, number) in [
                ("connections", totals.connections),
                ("sessions", totals.sessions),
                ("messages/received", totals.messages_received),
                ("messages/sent", totals.messages_sent),
                ("messages/crossed", totals.messages_crossed),
                ("turns", totals.turns),
                ("parked_wakes", totals.parked_wakes),
            ] {
                tell(&format!("{prefix}{name}"), number);
            }
            if let Some(busy) = *busy {
                let share = percent(busy.saturating_sub(self.busy[number]), now.duration_since(self.seen));
                tell(&format!("{prefix}busy_percent"), share);
                self.busy[number] = busy;
            }
        }
        self.seen = now;
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::ShardTotals;

    #[test]
    fn what_changed_is_told_and_what_was_not_taken_again() {
        let mut topics = SysTopics::start();
        let totals = |messages_sent| Totals {
            shards: ShardTotals { messages_sent, ..ShardTotals::default() },
            ..Totals::default()
        };
        let mut tell = |sent, is_taken| {
            let mut told = Vec::new();
            topics.tell(&totals(sent), &[], |messages| {
                told.clone_from(&messages);
                if is_taken { messages } else { Vec::new() }
            });
            told.retain(|(topic, _)| topic != "$SYS/broker/uptime");
            told
        };
        assert!(tell(1, true).len() > 25);
        assert_eq!(tell(1, true), []);
        let changed = [("$SYS/broker/publish/messages/sent".to_owned(), "2".to_owned())];
        assert_eq!(tell(2, false), changed);
        assert_eq!(tell(2, true), changed);
        assert_eq!(tell(2, true), []);
    }
}
