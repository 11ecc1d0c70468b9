//! `mqtt-broker stats`: the counters of the running broker, and with `--watch` what happens in a second.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::client::{ask, not_understood};
use super::output::{Form, Table, Watch, bytes, json, span};
use super::{Answer, Request, StatisticsRow};
use crate::error::StartupError;

/// Prints the counters of the broker that runs with `data_dir`.
///
/// # Errors
/// If no broker runs there, or if it does not answer.
pub(super) fn show(data_dir: &Path, form: Form, watch: Watch) -> Result<(), StartupError> {
    let mut before: Option<StatisticsRow> = None;
    watch.repeat(|| {
        let Answer::Statistics(now) = ask(data_dir, &Request::Statistics {})? else {
            return Err(not_understood(data_dir));
        };
        let text = if form.json { json(&now) } else { block(&now, before.as_ref()) };
        before = Some(*now);
        Ok(text)
    })
}

/// The counters as lines. Rates are since `before`, or else since the start.
fn block(now: &StatisticsRow, before: Option<&StatisticsRow>) -> String {
    let since_us = before.map_or(now.uptime_s * 1_000_000, |before| now.at_us.saturating_sub(before.at_us));
    let nothing = BTreeMap::new();
    let of = |counters: &BTreeMap<String, u64>, name: &str| counters.get(name).copied().unwrap_or_default();
    let rate = |now: u64, before: u64| tenths(now.saturating_sub(before), since_us);
    let earlier = before.map_or(&nothing, |before| &before.totals);
    let total = |name: &str| of(&now.totals, name);
    let per_s = |name: &str| rate(total(name), of(earlier, name));
    let mut text = String::new();
    let _ = writeln!(
        text,
        "mqtt-broker {}  up {}  log level {}  journal {}",
        now.version,
        span(now.uptime_s),
        now.log_level,
        now.journal
    );
    let _ = writeln!(
        text,
        "connections {} of {}  sessions {}  subscriptions {}  retained {}",
        now.connections,
        now.connections_max,
        total("sessions"),
        total("subscriptions"),
        total("retained_messages")
    );
    for (what, received, sent) in [
        ("messages", "messages_received", "messages_sent"),
        ("packets", "packets_received", "packets_sent"),
        ("bytes", "bytes_received", "bytes_sent"),
    ] {
        let (in_s, out_s) = (per_s(received), per_s(sent));
        let _ = writeln!(
            text,
            "{what} received {} ({in_s}/s)  sent {} ({out_s}/s)",
            total(received),
            total(sent)
        );
    }
    let held: u64 = now.memory.values().sum();
    let ceiling = if now.memory_bytes_max == 0 { "no limit".to_owned() } else { bytes(now.memory_bytes_max) };
    let _ = writeln!(text, "memory {} of {ceiling}", bytes(held));
    for (what, counts) in [("dropped", &now.dropped), ("closed", &now.closed), ("refused", &now.refused)] {
        let some: Vec<String> = counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| format!("{name}={count}"))
            .collect();
        if !some.is_empty() {
            let _ = writeln!(text, "{what} {}", some.join(" "));
        }
    }
    text + "\n" + &shards(now, before, rate).lines()
}

fn shards(now: &StatisticsRow, before: Option<&StatisticsRow>, rate: impl Fn(u64, u64) -> String) -> Table {
    let titles = [
        "shard",
        "connections",
        "sessions",
        "received/s",
        "sent/s",
        "crossed/s",
        "turns/s",
        "memory",
        "busy",
    ];
    let mut table = Table::new(&titles);
    for (number, shard) in now.shards.iter().enumerate() {
        let of = |name: &str| shard.get(name).copied().unwrap_or_default();
        let earlier = |name: &str| {
            let shard = before.and_then(|before| before.shards.get(number));
            shard.and_then(|shard| shard.get(name)).copied().unwrap_or_default()
        };
        let per_s = |name: &str| rate(of(name), earlier(name));
        let since = |name: &str| of(name).saturating_sub(earlier(name));
        let busy = (since("worked_us") * 100).checked_div(since("lived_us"));
        table.row([
            number.to_string(),
            of("connections").to_string(),
            of("sessions").to_string(),
            per_s("messages_received"),
            per_s("messages_sent"),
            per_s("messages_forwarded"),
            per_s("turns"),
            bytes(of("memory")),
            busy.map_or("-".to_owned(), |percent| format!("{} %", percent.min(100))),
        ]);
    }
    table
}

/// So many in these microseconds, for a second, with one decimal.
fn tenths(count: u64, since_us: u64) -> String {
    let tenths = u128::from(count) * 10_000_000 / u128::from(since_us.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_since_the_last_reading() {
        let reading = |at_us, received| {
            let totals = BTreeMap::from([("messages_received".to_owned(), received)]);
            let shard = BTreeMap::from([
                ("messages_received".to_owned(), received),
                ("lived_us".to_owned(), at_us),
                ("worked_us".to_owned(), at_us / 4),
            ]);
            StatisticsRow { at_us, uptime_s: 100, totals, shards: vec![shard], ..StatisticsRow::default() }
        };
        let (before, now) = (reading(1_000_000, 1_000), reading(3_000_000, 1_005));
        let later = block(&now, Some(&before));
        assert!(later.contains("messages received 1005 (2.5/s)  sent 0 (0.0/s)"), "{later}");
        assert!(later.lines().last().unwrap().ends_with("25 %"), "{later}");
        assert!(block(&now, None).contains("messages received 1005 (10.0/s)"));
    }
}
