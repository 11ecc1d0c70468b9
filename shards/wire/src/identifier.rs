//! Packet and subscription identifiers. Zero is reserved in both.

use core::num::{NonZeroU16, NonZeroU32};

/// A packet identifier: 1 to 65 535 [MQTT-2.2.1-3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The identifier with this number; `None` for 0, which is reserved [MQTT-2.2.1-3].
    #[must_use]
    #[inline]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// A subscription identifier: 1 to 268 435 455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// The greatest number a variable byte integer can hold.
    pub const MAX: u32 = crate::frame::REMAINING_LENGTH_MAX;

    /// The identifier with this number; `None` for 0 and above [`SubscriptionId::MAX`].
    #[must_use]
    #[inline]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(nonzero) if number <= Self::MAX => Some(Self(nonzero)),
            Some(_) | None => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_reserved_and_the_bounds_are_inclusive() {
        assert_eq!(PacketId::new(0), None);
        assert_eq!(PacketId::new(1).map(PacketId::get), Some(1));
        assert_eq!(PacketId::new(u16::MAX).map(PacketId::get), Some(u16::MAX));
        assert_eq!(SubscriptionId::new(0), None);
        assert_eq!(SubscriptionId::new(1).map(SubscriptionId::get), Some(1));
        assert_eq!(SubscriptionId::new(268_435_455).map(SubscriptionId::get), Some(268_435_455));
        assert_eq!(SubscriptionId::new(268_435_456), None);
    }
}
