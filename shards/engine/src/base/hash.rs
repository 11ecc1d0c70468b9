//! The hasher of every table whose keys a peer may choose.
//!
//! Invariant: the key is an argument, so a run with the same inputs is the same run.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

/// 128 secret bits from the host's entropy source. Without them, collisions cannot be constructed.
#[derive(Clone, Copy)]
pub struct Entropy(pub u128);

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entropy(secret)")
    }
}

/// SipHash-1-3 under the shard's key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed {
    empty: SipHasher13,
}

impl Keyed {
    pub(crate) fn new(entropy: Entropy) -> Self {
        Self { empty: SipHasher13::new_with_key(&entropy.0.to_le_bytes()) }
    }

    pub(crate) fn bytes(&self, bytes: &[u8]) -> u64 {
        self.empty.hash(bytes)
    }

    /// Hash of a text below a number: the name of a group below its filter, the text of a fingerprint below its kind.
    pub(crate) fn below(&self, parent: u32, bytes: &[u8]) -> u64 {
        let mut hasher = self.empty;
        hasher.write_u32(parent);
        hasher.write(bytes);
        hasher.finish()
    }

    /// Hash of two numbers.
    pub(crate) fn pair(&self, first: u32, second: u64) -> u64 {
        let mut hasher = self.empty;
        hasher.write_u32(first);
        hasher.write_u64(second);
        hasher.finish()
    }
}
