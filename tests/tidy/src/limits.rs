//! The limits of all figures: today's, which only become tighter, and those to reach.

use crate::figure::Kind::{AtLeast, AtMost};
use crate::figure::{Figure, Limit, Tenths};

/// One limit for each figure, in the order in which they are shown: today's, then the one to reach.
pub(crate) const LIMITS: &[Limit] = &[
    at_most("engine: files in the largest import circle", 3, 3),
    at_most("engine: arrows between rooms that run back", 0, 0),
    at_most("engine: files in no room", 0, 0),
    at_most("engine: crate-visible fields", 40, 40),
    at_most("engine: functions of seven or more arguments", 0, 0),
    at_most("engine: calls of expect", 40, 40),
    at_most("engine: lines of the longest file", 500, 500),
    at_most("engine: lines of the longest function", 70, 70),
    at_least_tenths("engine: assertions in a thousand lines", 200, 200),
    at_most("elsewhere: files above 500 lines", 0, 0),
    at_most("elsewhere: functions above 70 lines", 0, 0),
    at_most("headers: names in backticks that do not exist", 0, 0),
    at_most("documents: paths and names that do not exist", 0, 0),
    at_most("headers: \"knows no X\" beside a use of X", 0, 0),
    at_most_tenths("src: % of sentences that begin with What, Who, Those", 9, 9),
    at_most_tenths("shards: % of sentences that begin with What, …", 9, 9),
    at_most_tenths("tests, bench: % that begin with What, …", 9, 9),
    at_most_tenths("documents: % that begin with What, …", 9, 9),
];

const fn at_most(figure: &'static str, bound: usize, target: usize) -> Limit {
    at_most_tenths(figure, bound * 10, target * 10)
}

const fn at_most_tenths(figure: &'static str, bound: usize, target: usize) -> Limit {
    Limit { figure, bound: Tenths(bound), target: Tenths(target), kind: AtMost }
}

const fn at_least_tenths(figure: &'static str, bound: usize, target: usize) -> Limit {
    Limit { figure, bound: Tenths(bound), target: Tenths(target), kind: AtLeast }
}

/// The limit of `figure`; one without a limit is a mistake in the table.
pub(crate) fn limit_of(figure: &Figure) -> &'static Limit {
    LIMITS
        .iter()
        .find(|limit| limit.figure == figure.name)
        .unwrap_or_else(|| panic!("no limit for `{}`", figure.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_keeps_to_its_limit() {
        let figures = crate::figures();
        let worse: Vec<String> = figures
            .iter()
            .filter(|figure| !limit_of(figure).holds(figure.value))
            .map(|figure| {
                let bound = limit_of(figure).bound;
                format!(
                    "{}: {}, the limit is {bound}\n  {}",
                    figure.name,
                    figure.value,
                    figure.details.join("\n  ")
                )
            })
            .collect();
        assert!(worse.is_empty(), "{}", worse.join("\n"));
        assert_eq!(figures.len(), LIMITS.len(), "a limit without a figure");
    }

    #[test]
    fn no_limit_stands_beyond_its_target() {
        for limit in LIMITS {
            assert!(limit.bound == limit.target || !limit.is_reached(limit.bound), "{}", limit.figure);
        }
    }

    #[test]
    fn a_figure_past_its_limit_is_seen() {
        let few = at_most("few", 5, 3);
        assert!(few.holds(Tenths(50)) && !few.holds(Tenths(51)) && !few.is_reached(Tenths(31)));
        let many = at_least_tenths("many", 55, 200);
        assert!(many.holds(Tenths(55)) && !many.holds(Tenths(54)) && many.is_reached(Tenths(200)));
    }
}
