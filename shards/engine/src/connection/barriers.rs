//! The reasons for which the next packet of a connection is not simply taken, in one byte: most connections have none, and one
//! comparison tells so.

const HELD: u8 = 1;
const STARVED: u8 = 2;
const METERED: u8 = 4;

/// **Lives on:** every connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Barriers(u8);

impl Barriers {
    /// Whether there is any.
    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether no packet may be taken whatever its type.
    pub(super) fn stop(self) -> bool {
        self.0 & (HELD | STARVED) != 0
    }

    /// A packet of the connection is under way, and no other is taken until that one is done.
    pub(super) fn is_held(self) -> bool {
        self.0 & HELD != 0
    }

    /// The connection waits in one of the lists of those that are not read for lack of room in a lane or of memory.
    pub(super) fn is_starved(self) -> bool {
        self.0 & STARVED != 0
    }

    /// A meter is asked about each PUBLISH.
    pub(super) fn is_metered(self) -> bool {
        self.0 & METERED != 0
    }

    pub(super) fn set_held(&mut self, is_held: bool) {
        self.set(HELD, is_held);
    }

    pub(super) fn set_starved(&mut self, is_starved: bool) {
        self.set(STARVED, is_starved);
    }

    pub(super) fn set_metered(&mut self, is_metered: bool) {
        self.set(METERED, is_metered);
    }

    fn set(&mut self, bit: u8, is_set: bool) {
        self.0 = if is_set { self.0 | bit } else { self.0 & !bit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_barrier_is_set_alone() {
        let mut barriers = Barriers::default();
        assert!(!barriers.any() && !barriers.stop());
        barriers.set_metered(true);
        assert!(barriers.any() && !barriers.stop() && barriers.is_metered());
        barriers.set_held(true);
        barriers.set_starved(true);
        assert!(barriers.stop() && barriers.is_held() && barriers.is_starved());
        barriers.set_held(false);
        assert!(barriers.stop() && !barriers.is_held() && barriers.is_starved());
        barriers.set_starved(false);
        assert!(!barriers.stop() && barriers.is_metered());
    }
}
