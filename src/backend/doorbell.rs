//! Wakes a shard from another thread, whatever it sleeps in.
//! Knows nothing of what was put where the shard will look.

use super::blocking;
#[cfg(unix)]
use super::monoio;
use super::tokio;

/// What wakes one shard.
#[derive(Debug)]
pub(super) enum Bell {
    #[cfg(unix)]
    Monoio(monoio::Bell),
    Tokio(tokio::Bell),
    Blocking(blocking::Bell),
}

#[expect(
    clippy::disallowed_types,
    reason = "every shard rings every other's, and what they ring is not counted by itself"
)]
type Shared<T> = std::sync::Arc<T>;

/// The doorbells of all shards, in order. **Lives on:** any thread.
#[derive(Clone, Debug)]
pub(crate) struct Bells(Shared<[Bell]>);

impl Bells {
    /// Wakes a shard.
    ///
    /// # Panics
    /// If there is no such shard.
    pub(crate) fn ring(&self, shard: usize) {
        match &self.0[shard] {
            #[cfg(unix)]
            Bell::Monoio(bell) => bell.ring(),
            Bell::Tokio(bell) => bell.ring(),
            Bell::Blocking(bell) => bell.ring(),
        }
    }
}

impl FromIterator<Bell> for Bells {
    fn from_iter<I: IntoIterator<Item = Bell>>(bells: I) -> Self {
        Self(bells.into_iter().collect())
    }
}
