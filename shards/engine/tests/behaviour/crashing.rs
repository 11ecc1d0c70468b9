//! The parts that tests of crashes share: a schedule out of a seed, and a client's part of a handshake.

/// `SplitMix64`: small, and the same everywhere.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a small bound")
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A message that a client publishes until it is acknowledged to its end.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing {
    pub(crate) id: u16,
    pub(crate) number: usize,
    /// PUBREC came.
    pub(crate) is_received: bool,
}
