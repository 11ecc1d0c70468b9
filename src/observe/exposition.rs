//! The text format of Prometheus, version 0.0.4: families with their help and type, and samples with labels.
//! The crates for metrics write the later format of the same name only, in which `promtool check metrics` finds counters without a
//! type; so these lines are written here.

use std::fmt::{Display, Write as _};

/// The value of the header Content-Type.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows.
    Counter,
    /// A current value.
    Gauge,
}

/// The text so far.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
    family: String,
}

impl Exposition {
    /// A text that will take about so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), family: String::new() }
    }

    /// Begins a family. A counter gets the suffix that its type demands.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let (suffix, kind) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
        };
        self.begin(&format!("mqtt_{name}{suffix}"), kind, help);
    }

    /// Begins a family of the process, whose whole name every program uses.
    pub(crate) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.family);
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(help, false));
    }

    /// Appends a sample of the family.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.family);
        for (at, (name, label)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            if label.contains(['\\', '"', '\n']) {
                self.text.push_str(&escaped(label, true));
            } else {
                self.text.push_str(label);
            }
            self.text.push('"');
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.text, "{value}");
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// A text on one line; in a label, quotes are escaped as well.
fn escaped(text: &str, in_label: bool) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
    if in_label { escaped.replace('"', "\\\"") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples_have_the_form_that_prometheus_reads() {
        let mut text = Exposition::with_capacity(0);
        text.family("drops", Kind::Counter, "Messages that \"were\"\ndropped.");
        text.sample(&[], 3);
        text.sample(&[("shard", "0"), ("file", "a\"b\\c\nd")], 1.5);
        text.family("sessions", Kind::Gauge, "Sessions.");
        text.sample(&[("shard", "1")], 0);
        assert_eq!(
            text.finish(),
            "# HELP mqtt_drops_total Messages that \"were\"\\ndropped.\n\
             # TYPE mqtt_drops_total counter\n\
             mqtt_drops_total 3\n\
             mqtt_drops_total{shard=\"0\",file=\"a\\\"b\\\\c\\nd\"} 1.5\n\
             # HELP mqtt_sessions Sessions.\n\
             # TYPE mqtt_sessions gauge\n\
             mqtt_sessions{shard=\"1\"} 0\n"
        );
    }
}
