//! A figure that is measured, and the limit it is held to.

use std::fmt;

/// A number and what makes it up.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: Tenths,
    /// The places that a figure counts, one a line.
    pub(crate) details: Vec<String>,
}

impl Figure {
    pub(crate) fn new(name: &'static str, value: usize, details: Vec<String>) -> Self {
        Self { name, value: Tenths(value * 10), details }
    }

    pub(crate) fn counted(name: &'static str, details: Vec<String>) -> Self {
        Self::new(name, details.len(), details)
    }

    /// `part` in `per` of `whole`.
    pub(crate) fn ratio(
        name: &'static str,
        part: usize,
        whole: usize,
        per: usize,
        details: Vec<String>,
    ) -> Self {
        Self { name, value: Tenths((part * per * 10).checked_div(whole).unwrap_or(0)), details }
    }
}

/// A number with one digit after the point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Tenths(pub(crate) usize);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(10) {
            return f.pad(&(self.0 / 10).to_string());
        }
        f.pad(&format!("{}.{}", self.0 / 10, self.0 % 10))
    }
}

/// The bound of one figure.
pub(crate) struct Limit {
    pub(crate) figure: &'static str,
    /// The figure fails past this one. It moves towards the target and never away from it.
    pub(crate) bound: Tenths,
    /// The figure to reach.
    pub(crate) target: Tenths,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    AtMost,
    AtLeast,
}

impl Limit {
    /// Whether `value` keeps to the bound.
    pub(crate) fn holds(&self, value: Tenths) -> bool {
        self.is_within(value, self.bound)
    }

    /// Whether `value` has reached the target.
    pub(crate) fn is_reached(&self, value: Tenths) -> bool {
        self.is_within(value, self.target)
    }

    fn is_within(&self, value: Tenths, bound: Tenths) -> bool {
        match self.kind {
            Kind::AtMost => value <= bound,
            Kind::AtLeast => value >= bound,
        }
    }
}
