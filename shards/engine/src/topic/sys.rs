//! The broker's own topics: `$SYS` and everything below it, except for the state of bridges.

/// The level below which a bridge tells whether it is connected: a retained message and a retained will.
const BRIDGES: &str = "/broker/connection/";

/// Whether a topic is the broker's own, which clients cannot write. Filters that begin with a wildcard do not match it
/// [MQTT-4.7.2-1].
///
/// `$SYS/broker/connection/NAME/state` is a client's: a bridge of mosquitto writes it, and gives up if it may not.
pub(crate) fn is_sys(topic: &str) -> bool {
    let Some(rest) = topic.strip_prefix("$SYS") else { return false };
    rest.is_empty() || rest.starts_with('/') && !rest.starts_with(BRIDGES)
}
