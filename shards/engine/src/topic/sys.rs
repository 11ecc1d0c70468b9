//! The broker's own topics: `$SYS` and everything below it.

/// Whether a topic is the broker's own. Filters that begin with a wildcard do not match it [MQTT-4.7.2-1].
pub(crate) fn is_sys(topic: &str) -> bool {
    topic.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
