//! Wakes a shard from another thread, whatever it sleeps in.
//! Knows nothing of what was put where the shard will look.

use super::blocking;
#[cfg(unix)]
use super::monoio;
use super::tokio;

/// What wakes one shard.
#[derive(Debug)]
pub(super) enum Doorbell {
    #[cfg(unix)]
    Monoio(monoio::Doorbell),
    Tokio(tokio::Doorbell),
    Blocking(blocking::Doorbell),
}

#[expect(
    clippy::disallowed_types,
    reason = "every shard rings every other's, and what they ring is not counted by itself"
)]
type Shared<T> = std::sync::Arc<T>;

/// The doorbells of all shards, in order. **Lives on:** any thread.
#[derive(Clone, Debug)]
pub(crate) struct Doorbells(Shared<[Doorbell]>);

impl Doorbells {
    /// Wakes a shard.
    ///
    /// # Panics
    /// If there is no such shard.
    pub(crate) fn ring(&self, shard: usize) {
        match &self.0[shard] {
            #[cfg(unix)]
            Doorbell::Monoio(doorbell) => doorbell.ring(),
            Doorbell::Tokio(doorbell) => doorbell.ring(),
            Doorbell::Blocking(doorbell) => doorbell.ring(),
        }
    }
}

impl FromIterator<Doorbell> for Doorbells {
    fn from_iter<I: IntoIterator<Item = Doorbell>>(doorbells: I) -> Self {
        Self(doorbells.into_iter().collect())
    }
}
