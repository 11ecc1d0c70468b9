//! The order in which connections came: of two with one client identifier the newer one stays.

/// Connections that came within this time of each other, in milliseconds, may have been accepted in the wrong order by shards
/// that were not equally busy.
const TOGETHER_MS: u32 = 200;
/// Ports of one client that connects twice in that time are at most this far apart.
const PORT_DISTANCE_MAX: u16 = 128;

/// The place of a connection among those that all shards accepted. It keeps it when it is handed over.
///
/// Packed, because every connection has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(Rust, packed(4))]
pub struct Arrival {
    /// Its number in the order in which all shards accepted connections; no two have the same one.
    pub ordinal: u64,
    /// The shard that accepted it. One shard accepts connections in the order in which they came.
    pub queue: u16,
    /// The port of its peer. Systems and stacks of small devices number the ports of outgoing connections upwards, so it
    /// tells which of two shards was only slower to accept.
    pub port: u16,
}

impl Arrival {
    /// An arrival on the only shard.
    #[must_use]
    pub const fn new(ordinal: u64) -> Self {
        Self { ordinal, queue: 0, port: 0 }
    }

    /// Whether it came before `other`, which this shard has known for `known_ms`.
    pub(crate) fn is_before(self, other: Self, known_ms: u32) -> bool {
        assert!(self.ordinal != other.ordinal);
        let distance = other.port.abs_diff(self.port);
        let is_together = known_ms <= TOGETHER_MS && (1..=PORT_DISTANCE_MAX).contains(&distance);
        if self.queue != other.queue && is_together {
            return self.port < other.port;
        }
        self.ordinal < other.ordinal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_decide_only_between_shards_and_only_for_a_moment() {
        let newer = |ordinal, queue, port| Arrival { ordinal, queue, port };
        for (other, passed_ms, expected) in [
            // Accepted earlier by another shard: it came later, by its port.
            (newer(4, 1, 40_002), 0, true),
            (newer(4, 1, 40_128), 200, true),
            (newer(4, 1, 39_998), 0, false),
            (newer(6, 1, 39_998), 0, false),
            // Too late, too far apart, the same port, or the same shard: the order of accepting decides.
            (newer(4, 1, 40_002), 201, false),
            (newer(6, 1, 39_998), 201, true),
            (newer(4, 1, 40_129), 0, false),
            (newer(6, 1, 40_000), 0, true),
            (newer(4, 0, 40_002), 0, false),
            (newer(6, 0, 39_998), 0, true),
        ] {
            assert_eq!(newer(5, 0, 40_000).is_before(other, passed_ms), expected, "{other:?} {passed_ms}");
        }
    }
}
