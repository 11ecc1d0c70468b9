//! The terms on which one session receives one message.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use wire::{QoS, SubscriptionId};

use crate::base::heap;
use crate::base::ids::MessageKey;
use crate::topic::groups::GroupTag;

/// Subscription Identifiers that go with one delivery [MQTT-3.3.4-3].
#[derive(Clone, Debug, Default)]
pub(crate) enum Identifiers {
    #[default]
    None,
    One(SubscriptionId),
    Many(Vec<SubscriptionId>),
}

impl Identifiers {
    pub(crate) fn as_slice(&self) -> &[SubscriptionId] {
        match self {
            Self::None => &[],
            Self::One(identifier) => core::slice::from_ref(identifier),
            Self::Many(identifiers) => identifiers,
        }
    }

    /// Bytes that they take beside the grant.
    fn heap_bytes(&self) -> u64 {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(identifiers) => heap::block(identifiers.capacity() * size_of::<SubscriptionId>()),
        }
    }

    /// Adds one more, even if it is there: two subscriptions may have the same [3.3.4].
    pub(crate) fn add(&mut self, identifier: Option<SubscriptionId>) {
        let Some(identifier) = identifier else { return };
        match self {
            Self::None => *self = Self::One(identifier),
            Self::One(first) => *self = Self::Many(alloc::vec![*first, identifier]),
            Self::Many(identifiers) => identifiers.push(identifier),
        }
    }
}

impl From<Option<SubscriptionId>> for Identifiers {
    fn from(identifier: Option<SubscriptionId>) -> Self {
        identifier.map_or(Self::None, Self::One)
    }
}

/// The terms of one delivery. Plain data.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// The shared subscription it came by, while another member may still receive it instead: QoS 1 until it is
    /// acknowledged, QoS 2 until it is sent [MQTT-4.8.2-5]. The session is a member of that group.
    pub(crate) group: Option<GroupTag>,
    pub(crate) identifiers: Identifiers,
}

// Every queued and every in-flight message has one.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Grant>() == 32);

impl Grant {
    /// Bytes that it takes beside its own struct.
    pub(crate) fn heap_bytes(&self) -> u64 {
        self.identifiers.heap_bytes()
    }

    /// How the message came to the session.
    pub(crate) fn via(&self) -> Via {
        self.group.map_or(Via::Own, Via::Group)
    }
}

/// How a message came to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Via {
    /// By its own subscriptions, or by a group that cannot have it any more.
    Own,
    /// By a group it is a member of.
    Group(GroupTag),
    /// By a group it has left, with this key.
    Former(u64),
}

/// A delivery that the log has: the number of its session, and its place in the sequence of that.
pub(crate) type Owed = (NonZeroU64, u64);

/// A message that a session had not received when it ended, `None` once its receiver has it and only the handshake is
/// open; how it came to the session, and its delivery if the log has it.
pub(crate) type Undelivered = (Option<MessageKey>, Via, Option<Owed>);
