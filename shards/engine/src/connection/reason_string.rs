//! Reasons in words: what a reason code alone would leave a person guessing.
//! Knows no packet; who writes one says whether there is room and whether its client wants to know.

use wire::ReasonCode;

/// What a refused PUBLISH, SUBSCRIBE or CONNECT is told beside its code, where that says more than the code does.
pub(crate) const fn reason_string(reason: ReasonCode) -> Option<&'static str> {
    match reason {
        ReasonCode::TopicNameInvalid => Some("the topic has more levels than are allowed"),
        ReasonCode::TopicFilterInvalid => Some("a topic filter has more levels than are allowed"),
        ReasonCode::QuotaExceeded => Some("a limit of memory, messages or subscriptions is reached"),
        ReasonCode::NotAuthorized => Some("not allowed to this client"),
        ReasonCode::PayloadFormatInvalid => Some("the payload is not UTF-8, as its format indicator says"),
        _ => None,
    }
}
