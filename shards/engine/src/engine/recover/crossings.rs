//! The recovery of transfers: those that this shard took in, and those that others have not settled.

use super::super::{Engine, Rooms};
use super::Outcome;
use crate::base::ids::MessageKey;
use crate::record::TargetList;

/// The reason why a record is refused that names a shard which is none of the others.
const NO_SHARD: &str = "names a shard that is none of the others";

impl Engine {
    /// The last transfer of another shard that the log knows to be taken in; 0 for none. The host tells it to that shard by
    /// [`Engine::recover_settled`], once both logs are read.
    #[must_use]
    pub fn recovered_transfer(&self, source: u16) -> u64 {
        self.rooms.mesh.transfers().taken_of(source)
    }

    /// Another shard has taken in all transfers of this one up to this number, so they need not be sent again. To be called after
    /// the last record and before [`Engine::recovered`]. It spares work alone: a shard ignores what it took in before.
    ///
    /// # Panics
    /// If the engine's own tables contradict each other.
    pub fn recover_settled(&mut self, target: u16, upto: u64) {
        let outcome = self.rooms.recover_crossed(target, upto);
        assert!(outcome.is_ok());
    }
}

impl Rooms {
    fn is_other_shard(&self, shard: u16) -> bool {
        let placement = self.mesh.placement();
        shard < placement.shard_count() && shard != placement.own()
    }

    /// A transfer of another shard was taken in, and all before it.
    pub(super) fn recover_taken(&mut self, source: u16, sequence: u64) -> Outcome {
        if !self.is_other_shard(source) {
            return Err(NO_SHARD);
        }
        self.mesh.transfers_mut().recover_taken(source, sequence);
        Ok(())
    }

    /// A shard has settled transfers.
    pub(super) fn recover_crossed(&mut self, target: u16, upto: u64) -> Outcome {
        if !self.is_other_shard(target) {
            return Err(NO_SHARD);
        }
        for message in self.mesh.transfers_mut().recover_settled(target, upto) {
            self.delivery.messages.release(message);
        }
        Ok(())
    }

    /// A message went to other shards, some of which may not have settled it.
    pub(super) fn recover_transfer(
        &mut self,
        number: u64,
        message: MessageKey,
        targets: TargetList<'_>,
    ) -> Outcome {
        if !targets.iter().all(|target| self.is_other_shard(target.shard())) {
            return Err(NO_SHARD);
        }
        if self.mesh.transfers_mut().recover_open(number, message, targets) {
            self.delivery.messages.hold(message);
        }
        Ok(())
    }
}
