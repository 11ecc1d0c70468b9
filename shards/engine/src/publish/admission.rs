//! Whether a publish is taken at all, and the outcome of one that is.

use wire::ReasonCode;

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
    /// It is taken, and its fan-out goes on in later steps.
    UnderWay,
}

/// The reason to refuse a publish for its topic or for want of memory, if there is one. The broker's own messages are
/// few and small, and always taken.
pub(crate) fn refusal(
    limits: &Limits,
    message: &Message<'_>,
    is_over_ceiling: impl FnOnce() -> bool,
) -> Option<ReasonCode> {
    // A topic of so many levels has at least one byte less than that.
    let may_be_deep = message.topic.len() >= usize::from(limits.topic_levels_max);
    if is_sys(message.topic) {
        None
    } else if may_be_deep && message.topic.split('/').count() > usize::from(limits.topic_levels_max) {
        Some(ReasonCode::TopicNameInvalid)
    } else {
        is_over_ceiling().then_some(ReasonCode::QuotaExceeded)
    }
}
