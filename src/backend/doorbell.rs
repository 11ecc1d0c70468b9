//! Doorbells: they wake a shard from another thread, whatever its backend sleeps in. A ring carries no data; the shard
//! looks at its lanes and at its control channel.

use super::blocking;
#[cfg(unix)]
use super::monoio;
use super::tokio;

/// The doorbell of one shard.
#[derive(Debug)]
pub(super) enum Doorbell {
    #[cfg(unix)]
    Monoio(monoio::Doorbell),
    Tokio(tokio::Doorbell),
    Blocking(blocking::Doorbell),
}

#[expect(clippy::disallowed_types, reason = "every shard rings the doorbells of all others")]
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
