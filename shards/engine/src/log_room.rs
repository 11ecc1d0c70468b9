//! How much the log of a shard still takes, as its host sees the disk.
//!
//! Invariant: what frees is always taken: acknowledgements, UNSUBSCRIBE, DISCONNECT and the ends of sessions are recorded however short
//! room is. Everything else that is recorded waits or is refused, so the log holds a bounded number of bytes that are not durable.

/// How much the log of a shard takes, as [`crate::Event::LogRoom`] tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogRoom {
    /// Everything.
    #[default]
    Free,
    /// The disk is slow or full: no PUBLISH and no SUBSCRIBE that would be recorded is taken until there is room.
    Short,
    /// The same, and a CONNECT that would be recorded is refused with 0x88.
    Full,
    /// The log has failed, which does not end. Nothing that has to be durable is acknowledged any more, so a CONNECT that would wait for
    /// it is refused with 0x88.
    Failed,
}

impl LogRoom {
    /// Whether packets wait that would be recorded.
    pub(crate) const fn holds(self) -> bool {
        matches!(self, Self::Short | Self::Full)
    }

    /// Whether a CONNECT is refused whose CONNACK would wait for the log.
    pub(crate) const fn refuses_connect(self) -> bool {
        matches!(self, Self::Full | Self::Failed)
    }
}
