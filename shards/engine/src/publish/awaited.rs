//! A packet of a delivery of QoS 2 that is sent once a record is durable.

/// The packet, and its delivery in the sequence of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Awaited {
    /// PUBLISH, once the message is durable.
    Publish(u64),
    /// PUBLISH, once SETTLED is: no group is owed the message any more.
    Cleared(u64),
    /// PUBREL, once PUBREC is.
    Release(u64),
}
