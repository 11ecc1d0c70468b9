//! The result of a run, as a table to read or a line of JSON.

use std::io::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::Arguments;
use crate::ledger::Totals;
use crate::process::Usage;

/// Percentiles in the report.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99)];

/// The figures of a run.
pub(crate) struct Report {
    /// Deliveries, or cycles of a storm, in the measured time.
    done: u64,
    elapsed: Duration,
    usage: Usage,
    /// Totals of the whole run, including the time before and after the measured one.
    totals: Totals,
    pub(crate) generator_cpu_ns: Option<u64>,
    pub(crate) latency_us: Option<Histogram<u64>>,
    pub(crate) acknowledged_us: Option<Histogram<u64>>,
    pub(crate) receivers_mean: f64,
    pub(crate) bytes_per_connection: Vec<f64>,
    pub(crate) bytes_left_per_connection: Vec<f64>,
}

impl Report {
    pub(crate) fn new(done: u64, elapsed: Duration, usage: Usage, totals: Totals) -> Self {
        Self {
            done,
            elapsed,
            usage,
            totals,
            generator_cpu_ns: None,
            latency_us: None,
            acknowledged_us: None,
            receivers_mean: 1.0,
            bytes_per_connection: Vec::new(),
            bytes_left_per_connection: Vec::new(),
        }
    }

    pub(crate) fn print(&self, arguments: &Arguments) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if arguments.json {
            writeln!(output, "{}", Value::Object(self.json(arguments)))
        } else {
            for (name, text) in self.lines() {
                writeln!(output, "{name:<26}{text}")?;
            }
            Ok(())
        }
    }

    fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let mut line = |name: &str, text: String| lines.push((name.to_owned(), text));
        if self.done > 0 {
            let rate = figure(self.done) / self.elapsed.as_secs_f64();
            line("done", format!("{} in {:.1} s, {rate:.0} a second", self.done, self.elapsed.as_secs_f64()));
            line("broker CPU", format!("{:.2} µs each", self.each_us(self.usage.cpu_ns)));
            line("of it in the kernel", format!("{:.2} µs each", self.each_us(self.usage.kernel_ns)));
        }
        if let Some(ns) = self.generator_cpu_ns {
            line("generator CPU", format!("{:.2} µs each", self.each_us(ns)));
        }
        let switches = (self.usage.voluntary_switches, self.usage.involuntary_switches);
        line("broker context switches", format!("{} voluntary, {} not", switches.0, switches.1));
        line("broker memory", format!("{:.1} MiB", figure(self.usage.resident_bytes) / 1_048_576.0));
        if !self.bytes_per_connection.is_empty() {
            line("bytes a connection", rounds(&self.bytes_per_connection));
            line("bytes left a connection", rounds(&self.bytes_left_per_connection));
        }
        if let Some(latency) = &self.latency_us {
            for (name, percentile) in PERCENTILES {
                line(&format!("latency {name}"), format!("{} µs", latency.value_at_percentile(percentile)));
            }
            line("latency longest", format!("{} µs", latency.max()));
        }
        if let Some(acknowledged) = &self.acknowledged_us {
            for (name, percentile) in PERCENTILES {
                let us = acknowledged.value_at_percentile(percentile);
                line(&format!("acknowledged {name}"), format!("{us} µs"));
            }
        }
        if self.totals.expected > 0 {
            let Totals { expected, duplicated, reordered, .. } = self.totals;
            let lost = self.totals.lost();
            line(
                "of all",
                format!("{expected} expected, {lost} lost, {duplicated} twice, {reordered} out of order"),
            );
        }
        lines
    }

    fn json(&self, arguments: &Arguments) -> Map<String, Value> {
        let value = json!({
            "scenario": format!("{:?}", arguments.scenario),
            "count": arguments.count,
            "qos": arguments.qos,
            "window": arguments.rate.is_none().then_some(arguments.window),
            "rate": arguments.rate,
            "tick_us": arguments.rate.is_some().then_some(arguments.tick_us),
            "shards": arguments.shards.map(|placing| format!("{placing:?}")),
            "payload_bytes": arguments.payload_bytes,
            "v5": arguments.v5,
            "receivers_mean": self.receivers_mean,
            "done": self.done,
            "seconds": self.elapsed.as_secs_f64(),
            "each_per_s": (figure(self.done) / self.elapsed.as_secs_f64()).round(),
            "broker_cpu_us": self.each_us(self.usage.cpu_ns),
            "broker_kernel_us": self.each_us(self.usage.kernel_ns),
            "generator_cpu_us": self.generator_cpu_ns.map(|ns| self.each_us(ns)),
            "voluntary_switches": self.usage.voluntary_switches,
            "involuntary_switches": self.usage.involuntary_switches,
            "resident_bytes": self.usage.resident_bytes,
            "resident_bytes_with_files": self.usage.resident_bytes_with_files,
            "bytes_per_connection": self.bytes_per_connection,
            "bytes_left_per_connection": self.bytes_left_per_connection,
            "owed": self.totals.expected,
            "lost": self.totals.lost(),
            "duplicated": self.totals.duplicated,
            "reordered": self.totals.reordered,
        });
        let Value::Object(mut map) = value else { unreachable!("made as an object") };
        if let Some(latency) = &self.latency_us {
            for (name, percentile) in PERCENTILES {
                map.insert(format!("latency_us_{name}"), latency.value_at_percentile(percentile).into());
            }
        }
        if let Some(acknowledged) = &self.acknowledged_us {
            map.insert("acknowledged".to_owned(), acknowledged.len().into());
            for (name, percentile) in PERCENTILES {
                let us = acknowledged.value_at_percentile(percentile);
                map.insert(format!("acknowledged_us_{name}"), us.into());
            }
        }
        map
    }

    fn each_us(&self, ns: u64) -> f64 {
        figure(ns) / 1_000.0 / figure(self.done.max(1))
    }
}

fn rounds(figures: &[f64]) -> String {
    figures.iter().map(|bytes| format!("{bytes:.0}")).collect::<Vec<_>>().join(", ")
}

#[expect(clippy::cast_precision_loss, reason = "figures to be read, far below 2^52")]
fn figure(number: u64) -> f64 {
    number as f64
}
