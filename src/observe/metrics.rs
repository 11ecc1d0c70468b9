//! The metrics of the broker for Prometheus: every counter of the shards, one sample for each shard, and the counts of the process.
//! Names and meanings are those of the table of `ShardTotals`, so that every output shows the same numbers.
//!
//! Invariant: no label is text of a client, so the number of samples follows from the configuration alone.

use std::array::from_fn;

use engine::{CauseGroup, DropReason, MemoryKind};

use super::exposition::{Exposition, Kind};
use super::histogram::Stage;
use super::service_state::ServiceState;
use super::statistics::{ShardReport, ShardTotals, Totals};
use super::tally::Tally;
use crate::net::tls::TlsListeners;
use crate::process::clock;
use crate::shard::gauges::JournalState;
use crate::shard::view::View;

/// Bytes of the samples of one shard, about.
const SHARD_BYTES: usize = 12 * 1024;

/// Bytes of everything else, about.
const PROCESS_BYTES: usize = 32 * 1024;

/// Everything that metrics are read from. **Lives on:** the admin thread.
pub(crate) struct Metrics {
    view: View,
    tally: Tally,
    tls: TlsListeners,
    state: ServiceState,
    /// When the process started, in seconds since 1970.
    started_at_s: u64,
}

/// Counters of the rules: all are one family, by the action that they forbid.
const DENIED: [(&str, &str); 4] = [
    ("publishes_forbidden", "publish"),
    ("subscriptions_forbidden", "subscribe"),
    ("wills_forbidden", "will"),
    ("reads_denied", "read"),
];

/// Counters whose name needs its noun where it stands alone.
const RENAMED: [(&str, &str); 5] = [
    ("attached", "sessions_connected"),
    ("closed_by_operator", "connections_closed_by_operator"),
    ("crossed_for_nothing", "messages_crossed_for_nothing"),
    ("handed_over", "connections_handed_over"),
    ("turns", "shard_turns"),
];

impl Metrics {
    /// Metrics of these shards and listeners.
    pub(crate) fn new(view: View, tally: Tally, tls: TlsListeners, state: ServiceState) -> Self {
        Self { view, tally, tls, state, started_at_s: clock::unix_s() }
    }

    /// The state of the process.
    pub(crate) fn state(&self) -> &ServiceState {
        &self.state
    }

    /// The counters of the shards.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// All metrics as they are now.
    pub(crate) fn render(&self) -> String {
        let shards = Shards::new(self.view.each());
        let mut text = Exposition::with_capacity(PROCESS_BYTES + SHARD_BYTES * shards.reports.len());
        self.process(&mut text);
        limits(&mut text, &self.view.totals());
        self.clients(&mut text);
        self.tls(&mut text);
        shards.counters(&mut text);
        shards.reasons(&mut text);
        shards.times(&mut text);
        self.stages(&mut text);
        text.finish()
    }

    fn process(&self, text: &mut Exposition) {
        text.family("build_info", Kind::Gauge, "1; the labels tell the version.");
        text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        text.begin("process_start_time_seconds", "gauge", "Start of the process in seconds since 1970.");
        text.sample(&[], self.started_at_s);
        if let Some(bytes) = resident_bytes() {
            text.begin(
                "process_resident_memory_bytes",
                "gauge",
                "Memory that the process occupies in bytes.",
            );
            text.sample(&[], bytes);
        }
        text.family(
            "config_generation",
            Kind::Gauge,
            "Number of the configuration in force; that of the start is 1.",
        );
        text.sample(&[], self.state.config_generation());
        text.family(
            "config_reloads",
            Kind::Counter,
            "Configurations that were read again while the broker ran.",
        );
        for (result, count) in ["applied", "failed"].into_iter().zip(self.state.reloads()) {
            text.sample(&[("result", result)], count);
        }
    }

    /// The stages that have taken time.
    fn stages(&self, text: &mut Exposition) {
        for stage in Stage::ALL {
            let shards = self.view.times(stage);
            if shards.iter().all(|times| times.count() == 0) {
                continue;
            }
            text.begin(&format!("mqtt_{}_seconds", stage.name()), "histogram", stage.description());
            for (shard, times) in shards.iter().enumerate() {
                let shard = shard.to_string();
                for (bound_s, count) in times.cumulative() {
                    text.part("_bucket", &[("shard", &shard), ("le", &bound_s.to_string())], count);
                }
                text.part("_bucket", &[("shard", &shard), ("le", "+Inf")], times.count());
                text.part("_sum", &[("shard", &shard)], times.sum_s());
                text.part("_count", &[("shard", &shard)], times.count());
            }
        }
    }

    fn clients(&self, text: &mut Exposition) {
        text.family(
            "connects",
            Kind::Counter,
            "Clients that were let in and connections that were refused, by listener.",
        );
        for (listener, counts) in self.tally.listeners() {
            verdicts(text, "listener", listener, counts);
        }
        text.family("auth", Kind::Counter, "Clients that a method of authentication has let in or refused.");
        for (method, counts) in self.tally.methods() {
            verdicts(text, "method", method, counts);
        }
    }

    fn tls(&self, text: &mut Exposition) {
        let tls = self.tls.read();
        if tls.is_empty() {
            return;
        }
        text.family(
            "tls_handshakes",
            Kind::Counter,
            "Handshakes of TLS by kind, full or resumed; one that failed or was not finished has none.",
        );
        for listener in tls.iter() {
            let ends = [("full", "ok"), ("resumed", "ok"), ("none", "failed"), ("none", "unfinished")];
            for ((kind, result), count) in ends.into_iter().zip(listener.handshakes()) {
                text.sample(&[("listener", listener.name()), ("kind", kind), ("result", result)], count);
            }
        }
        for (name, help, is_list) in [
            ("certificate_expiry_seconds", "End of a certificate in seconds since 1970.", false),
            ("crl_expiry_seconds", "End of a list of revoked certificates in seconds since 1970.", true),
        ] {
            let expiries = || tls.iter().map(|listener| (listener.name(), listener.expiries()));
            if expiries().any(|(_, expiries)| expiries.iter().any(|expiry| expiry.is_list == is_list)) {
                text.family(name, Kind::Gauge, help);
            }
            for (listener, expiries) in expiries() {
                for (number, expiry) in expiries.iter().filter(|expiry| expiry.is_list == is_list).enumerate()
                {
                    // A file can have several certificates.
                    let (file, number) = (expiry.file.display().to_string(), number.to_string());
                    text.sample(&[("listener", listener), ("file", &file), ("number", &number)], expiry.at_s);
                }
            }
        }
    }
}

/// The bounds of the process, and what is not a shard's.
fn limits(text: &mut Exposition, totals: &Totals) {
    text.family("connections_max", Kind::Gauge, "Connections that can be served.");
    text.sample(&[], totals.connections_max);
    text.family("memory_max_bytes", Kind::Gauge, "Bytes that the broker may hold; 0 without a limit.");
    text.sample(&[], totals.memory_bytes_max);
    text.family("bans", Kind::Gauge, "Bans in force.");
    text.sample(&[], totals.bans);
    text.family(
        "connections_unanswered",
        Kind::Counter,
        "Connections that were closed at once, because even refusals were too many.",
    );
    for (group, count) in [
        (CauseGroup::TooManyConnections, totals.connections_unanswered),
        (CauseGroup::AddressLimit, totals.addresses_unanswered),
        (CauseGroup::Banned, totals.banned_unanswered),
    ] {
        text.sample(&[("reason", group.name())], count);
    }
    text.family("journal_state", Kind::Gauge, "1 for the worst state of a shard's log, else 0.");
    for state in [JournalState::None, JournalState::Serving, JournalState::Degraded, JournalState::Failed] {
        text.sample(&[("state", state.name())], u8::from(state == totals.journal));
    }
}

fn verdicts(text: &mut Exposition, label: &str, name: &str, [accepted, refused]: [u64; 2]) {
    text.sample(&[(label, name), ("result", "accepted")], accepted);
    text.sample(&[(label, name), ("result", "refused")], refused);
}

/// The counters of all shards at one moment, each with its number as text.
struct Shards {
    reports: Vec<(String, ShardReport)>,
}

impl Shards {
    fn new(reports: Vec<ShardReport>) -> Self {
        Self {
            reports: reports
                .into_iter()
                .enumerate()
                .map(|(shard, report)| (shard.to_string(), report))
                .collect(),
        }
    }

    /// The table of counters.
    fn counters(&self, text: &mut Exposition) {
        let numbers: Vec<_> =
            self.reports.iter().map(|(shard, report)| (shard, report.totals.numbers())).collect();
        for (at, (name, lines)) in ShardTotals::DESCRIPTIONS.iter().enumerate() {
            if DENIED.iter().any(|(denied, _)| denied == name) {
                continue;
            }
            let (kind, help) = described(lines);
            let renamed = RENAMED.iter().find(|(renamed, _)| renamed == name);
            text.family(renamed.map_or(*name, |(_, noun)| noun), kind, &help);
            for (shard, numbers) in &numbers {
                text.sample(&[("shard", shard)], numbers[at]);
            }
        }
        text.family("denied", Kind::Counter, "Actions that the rules about topics forbid.");
        for (name, action) in DENIED {
            let at = ShardTotals::DESCRIPTIONS.iter().position(|(known, _)| *known == name);
            let at = at.expect("every forbidden action has a counter");
            for (shard, numbers) in &numbers {
                text.sample(&[("action", action), ("shard", shard)], numbers[at]);
            }
        }
    }

    /// The counters by reason or kind.
    fn reasons(&self, text: &mut Exposition) {
        let groups = CauseGroup::ALL.iter();
        let dropped = from_fn::<_, { DropReason::ALL.len() }, _>(|at| DropReason::ALL[at].name());
        self.by(
            text,
            ("messages_dropped", "reason", Kind::Counter),
            "Messages that matched a session and did not reach it.",
            &dropped,
            |it| &it.dropped,
        );
        let closing: Vec<_> =
            groups.clone().map(|group| if group.may_close() { group.name() } else { "" }).collect();
        self.by(
            text,
            ("connections_closed", "reason", Kind::Counter),
            "Clients that were let in and whose connection has ended.",
            &closing,
            |it| &it.closed,
        );
        let refusing: Vec<_> =
            groups.map(|group| if group.may_refuse() { group.name() } else { "" }).collect();
        self.by(
            text,
            ("connections_refused", "reason", Kind::Counter),
            "Connections that ended before a client was let in.",
            &refusing,
            |it| &it.refused,
        );
        let kinds = MemoryKind::ALL.map(MemoryKind::name);
        self.by(text, ("memory_bytes", "kind", Kind::Gauge), "Bytes held, by purpose.", &kinds, |it| {
            &it.memory
        });
    }

    /// One family whose samples have the label `label` beside the shard. An empty name has no sample.
    fn by(
        &self,
        text: &mut Exposition,
        (name, label, kind): (&str, &str, Kind),
        help: &str,
        names: &[&str],
        values: impl Fn(&ShardTotals) -> &[u64],
    ) {
        text.family(name, kind, help);
        for (at, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            for (shard, report) in &self.reports {
                text.sample(&[(label, name), ("shard", shard)], values(&report.totals)[at]);
            }
        }
    }

    /// The times of the threads, where the system reports them.
    fn times(&self, text: &mut Exposition) {
        if self.reports.iter().all(|(_, report)| report.times.is_none()) {
            return;
        }
        text.family("shard_cpu_seconds", Kind::Counter, "CPU time of the shard's thread.");
        for (shard, report) in &self.reports {
            if let Some(times) = report.times {
                text.sample(&[("shard", shard)], times.worked.as_secs_f64());
            }
        }
    }
}

/// The type and the help of a counter, from the description of its field.
fn described(lines: &[&str]) -> (Kind, String) {
    let help = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").replace('`', "");
    match help.split_once(" (gauge)") {
        Some((before, after)) => (Kind::Gauge, format!("{before}{after}")),
        None => (Kind::Counter, help),
    }
}

/// The memory that the process occupies, where the system tells it in a file.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: usize) -> Shards {
        let report = ShardReport { totals: ShardTotals::default(), times: None };
        Shards::new(vec![report; count])
    }

    #[test]
    fn the_type_of_a_counter_follows_from_its_description() {
        assert_eq!(
            described(&[" Sessions, connected or not (gauge)."]),
            (Kind::Gauge, "Sessions, connected or not.".to_owned())
        );
        assert_eq!(
            described(&[" Filters because of", " `match_nodes_max`."]),
            (Kind::Counter, "Filters because of match_nodes_max.".to_owned())
        );
    }

    #[test]
    fn every_counter_is_a_sample_of_each_shard() {
        let mut text = Exposition::default();
        let two = shards(2);
        two.counters(&mut text);
        two.reasons(&mut text);
        let text = text.finish();
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        let closing = CauseGroup::ALL.iter().filter(|group| group.may_close()).count();
        let refusing = CauseGroup::ALL.iter().filter(|group| group.may_refuse()).count();
        let reasons = DropReason::ALL.len() + closing + refusing + MemoryKind::ALL.len();
        assert_eq!(samples, 2 * (ShardTotals::NUMBERS + reasons));
        for name in RENAMED.iter().chain(&DENIED).map(|(name, _)| name) {
            assert!(ShardTotals::DESCRIPTIONS.iter().any(|(known, _)| known == name), "{name}");
        }
    }
}
