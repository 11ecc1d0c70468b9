//! Reason strings: the texts that explain a reason code to a person.
//!
//! The writer of a packet decides whether its client accepts a reason string and whether the string fits.

use wire::ReasonCode;

/// The reason string of a filter that is refused because of `Limits::match_nodes_max`.
pub(crate) const MATCH_NODES: &str = "filters with + at many different levels make publishes too slow; the broker's match_nodes_max is reached";

/// The reason string of a refused PUBLISH, SUBSCRIBE or CONNECT, where a text says more than the code does.
pub(crate) const fn reason_string(reason: ReasonCode) -> Option<&'static str> {
    match reason {
        ReasonCode::TopicNameInvalid => Some("the topic has more levels than are allowed"),
        ReasonCode::TopicFilterInvalid => Some("a topic filter has more levels than are allowed"),
        ReasonCode::QuotaExceeded => Some(
            "a limit is reached: retained_messages_max or retained_bytes_max, subscriptions_per_session_max, or memory; \
             ask for less or try again later",
        ),
        ReasonCode::NotAuthorized => Some("not allowed to this client"),
        ReasonCode::PayloadFormatInvalid => Some("the payload is not UTF-8, as its format indicator says"),
        _ => None,
    }
}
