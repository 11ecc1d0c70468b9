//! The messages that shards send each other, and the lane that each takes.
//! Invariant: announcements, requests and watermarks keep their order among each other, and so do publishes and the
//! answers to requests, because each kind always takes the same lane. Nothing else is ordered between the two.

use crate::mesh::outbound::LaneKind;
use crate::message::forwarded::ForwardedPublish;
use crate::message::origin::Origins;
use crate::session::replays::RequestId;
use crate::topic::tree::Wanted;

/// A message from one shard to another.
#[derive(Debug)]
pub(crate) enum ShardMessage<'a> {
    Publish(ForwardedPublish<'a>),
    /// No member of this group is online at its sender; it is offered to the next shard.
    Returned(ForwardedPublish<'a>),
    /// A retained message of a page that was requested.
    Retained(RequestId, ForwardedPublish<'a>),
    /// The end of a page; the last topic looked at, or none if there are no more.
    PageEnd(RequestId, Option<&'a str>),
    /// The interest of the sender's subscribers in a filter.
    Interest(RemoteFilter<'a>, Wanted),
    /// The members of a group at the sender.
    Group {
        filter: RemoteFilter<'a>,
        key: u64,
        online_count: u32,
        persistent_count: u32,
        /// Whether messages of QoS 1 and 2 for one of them have to outlive the process.
        is_lasting: bool,
    },
    /// The sender has announced everything that its log had.
    Recovered,
    /// The sender has settled all transfers of the receiver up to this number.
    Settled(u64),
    /// The request of a page.
    PageRequest {
        replay: RequestId,
        filter: &'a str,
        /// The topic where the page begins; none is the first page.
        topic: Option<&'a str>,
        /// Whether an earlier page included that topic, so that this one begins after it.
        is_seen: bool,
        /// The updates that the home must have applied before it answers.
        required: Origins<'a>,
    },
    /// Announcements taken in, and the last update sent to each home until then.
    Watermarks(u64, Origins<'a>),
}

impl ShardMessage<'_> {
    /// Whether a log has it on its way.
    pub(crate) fn is_transfer(&self) -> bool {
        matches!(self, Self::Publish(publish) | Self::Returned(publish) if publish.transfer.is_some())
    }

    pub(crate) fn lane(&self) -> LaneKind {
        match self {
            Self::Publish(_) | Self::Returned(_) | Self::Retained(..) | Self::PageEnd(..) => LaneKind::Data,
            Self::Interest(..)
            | Self::Group { .. }
            | Self::PageRequest { .. }
            | Self::Watermarks(..)
            | Self::Recovered
            | Self::Settled(_) => LaneKind::Control,
        }
    }
}

/// The name of a filter in the messages between shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RemoteFilter<'a> {
    /// The fingerprint of a filter without wildcards.
    Exact(u64),
    /// The text of one with wildcards.
    Wild(&'a str),
}
