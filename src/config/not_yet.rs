//! The keys whose feature is not in this version yet. A file that sets one is refused with the reason.

/// Keys and tables by their path, each with the reason as the end of a sentence.
const NOT_YET: &[(&str, &str)] = &[];

/// The reason why `path` is refused, if it is.
pub(super) fn reason(path: &str) -> Option<&'static str> {
    NOT_YET.iter().find(|(refused, _)| *refused == path).map(|(_, reason)| *reason)
}

/// The line about that in `broker.conf`; empty if `path` is not refused.
pub(super) fn note(path: &str) -> String {
    reason(path).map(|_| "# Not in this version yet.\n".to_owned()).unwrap_or_default()
}
