//! One measured value beside its limit, and the table of several.

/// A measured value. Without a limit it is only told.
#[derive(Debug)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Option<Limit>,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    /// A value that only informs.
    pub(crate) fn told(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, limit: None }
    }

    /// A value that fails the scenario above `max`.
    pub(crate) fn at_most(name: impl Into<String>, value: f64, unit: &'static str, max: f64) -> Self {
        Self { limit: Some(Limit::AtMost(max)), ..Self::told(name, value, unit) }
    }

    /// A value that fails the scenario below `min`.
    pub(crate) fn at_least(name: impl Into<String>, value: f64, unit: &'static str, min: f64) -> Self {
        Self { limit: Some(Limit::AtLeast(min)), ..Self::told(name, value, unit) }
    }

    pub(crate) fn is_within(&self) -> bool {
        match self.limit {
            None => true,
            Some(Limit::AtMost(max)) => self.value <= max,
            Some(Limit::AtLeast(min)) => self.value >= min,
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the result")]
/// Prints the figures as a table of Markdown.
pub(crate) fn print_table(figures: &[Figure]) {
    println!("| Figure | Measured | Limit | |\n|---|---:|---:|---|");
    for figure in figures {
        let limit = match figure.limit {
            None => String::new(),
            Some(Limit::AtMost(max)) => format!("≤ {}", rounded(max)),
            Some(Limit::AtLeast(min)) => format!("≥ {}", rounded(min)),
        };
        let verdict = if figure.is_within() { "" } else { "FAILED" };
        println!("| {} | {} {} | {limit} | {verdict} |", figure.name, rounded(figure.value), figure.unit);
    }
}

fn rounded(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
