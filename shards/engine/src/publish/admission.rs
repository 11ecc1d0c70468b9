//! Whether a publish is taken at all, and the outcome of one that is.

use wire::ReasonCode;

use crate::connection::disconnect::Wait;
use crate::limits::Limits;
use crate::message::borrowed::Message;
use crate::topic::sys::is_sys;

/// The outcome of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Routed {
    /// It was offered to so many sessions, or shards; `must_persist` if the promise to one of them outlives its
    /// connection.
    Taken {
        offered_count: u32,
        must_persist: bool,
    },
    Refused(ReasonCode),
    /// The rules do not allow it to its client.
    Denied,
    /// It is taken, and its fan-out goes on in later steps.
    UnderWay,
    /// Somebody would have to keep it, and there is no memory for that now: a client that cannot be told waits. Or the log would have to,
    /// which has no room: every client waits.
    Delayed {
        payload_bytes: u64,
        wait: Wait,
    },
}

/// The reason to refuse a publish for its topic, if there is one.
pub(crate) fn refusal(limits: &Limits, message: &Message<'_>) -> Option<ReasonCode> {
    // A topic of so many levels has at least one byte less than that.
    let may_be_deep = message.topic.len() >= usize::from(limits.topic_levels_max);
    let is_deep = may_be_deep && message.topic.split('/').count() > usize::from(limits.topic_levels_max);
    (is_deep && !is_sys(message.topic)).then_some(ReasonCode::TopicNameInvalid)
}
