//! Transfers: messages that go from the log of one shard to another shard, and survive the end of the process on their way.
//!
//! Invariants worth naming:
//! - A transfer is named by its source and the number of its record there. To one target numbers grow, so one number, the last that was
//!   taken in, tells a repetition.
//! - A transfer is open, and its message held, until each of its targets has settled it: has a durable record of all that came of it,
//!   or needs none.
//! - A target settles transfers in their order.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use crate::action::Batch;
use crate::base::heap;
use crate::base::ids::MessageKey;
use crate::base::shard_set::ShardSet;
use crate::memory::tree_entry_bytes;
use crate::record::TargetList;

/// Bytes that may be open towards a shard before no more messages are taken that would be.
const OPEN_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes that a target settles until the log is told of it.
const TOLD_BYTES: u64 = 16 * 1024;
/// Bytes of a transfer beside its message, about.
const TRANSFER_BYTES: u64 = 128;

/// A transfer that some target has not settled.
#[derive(Debug)]
struct Open {
    /// It is held.
    message: MessageKey,
    /// The targets as the record has them.
    targets: Vec<u8>,
    /// The ones that have not settled it.
    left: ShardSet,
}

/// The transfers to one shard.
#[derive(Debug, Default)]
struct Target {
    /// Numbers of those that it has not settled, and their bytes; in order.
    open: VecDeque<(u64, u64)>,
    open_bytes: u64,
    settled: u64,
    /// Bytes that it settled since the log was told.
    untold_bytes: u64,
}

/// The transfers from one shard.
#[derive(Debug, Default)]
struct Source {
    /// The last one that was taken in.
    taken: u64,
    /// The last one of which the log knows that it was taken in.
    recorded: u64,
    /// The last transfers of which something was recorded in a batch, with those behind them of which nothing was.
    unsynced: VecDeque<(Batch, u64)>,
    settled: u64,
    /// The source has to be told the number that is settled.
    is_untold: bool,
}

/// **Lives on:** every shard. **Sees:** the transfers of this shard and to it.
#[derive(Debug)]
pub(crate) struct Transfers {
    open: BTreeMap<u64, Open>,
    target_bytes: u64,
    /// By shard, as all lists here.
    targets: Vec<Target>,
    /// Targets towards which too much is open.
    full_count: u32,
    sources: Vec<Source>,
    has_untold: bool,
    has_unrecorded: bool,
}

impl Transfers {
    pub(crate) fn new(shard_count: u16) -> Self {
        let mut targets = Vec::new();
        targets.resize_with(shard_count.into(), Target::default);
        let mut sources = vec![];
        sources.resize_with(shard_count.into(), Source::default);
        Self {
            open: BTreeMap::new(),
            target_bytes: 0,
            targets,
            full_count: 0,
            sources,
            has_untold: false,
            has_unrecorded: false,
        }
    }

    /// Whether too much is open towards some shard.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.full_count > 0
    }

    /// The shards towards which too much is open.
    pub(crate) fn full_targets(&self) -> ShardSet {
        let targets = (0u16..).zip(&self.targets).filter(|(_, target)| target.open_bytes > OPEN_BYTES_MAX);
        targets.fold(ShardSet::default(), |full, (shard, _)| full.with(shard))
    }

    /// Transfers that are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Bytes of its tables. The messages are in the store.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let lists =
            self.targets.iter().map(|target| heap::block(target.open.capacity() * size_of::<(u64, u64)>()));
        self.open.len() as u64 * tree_entry_bytes(size_of::<(u64, Open)>())
            + self.target_bytes
            + lists.sum::<u64>()
    }

    /// Opens a transfer to all of `targets`. It takes over a hold of the message.
    pub(crate) fn open(&mut self, number: u64, (message, bytes): (MessageKey, u64), targets: TargetList<'_>) {
        assert!(!targets.is_empty());
        let mut left = ShardSet::default();
        for shard in targets.iter().map(|target| target.shard()) {
            assert!(!left.contains(shard));
            left = left.with(shard);
            self.push_open(shard, number, bytes);
        }
        let targets = targets.bytes().to_vec();
        self.target_bytes += heap::block(targets.capacity());
        let before = self.open.insert(number, Open { message, targets, left });
        assert!(before.is_none());
    }

    fn is_open(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// A target has settled all transfers up to this number. Returns the messages that are let go, of which the caller takes the holds
    /// over.
    pub(crate) fn settle(&mut self, target: u16, upto: u64) -> Vec<MessageKey> {
        let mut released = Vec::new();
        while let Some(number) = self.pop_settled(target, upto) {
            let Some(open) = self.open.get_mut(&number) else { unreachable!("it is open for this target") };
            assert!(open.left.contains(target));
            open.left = open.left.without(target);
            if open.left.is_empty() {
                self.target_bytes -= heap::block(open.targets.capacity());
                released.push(open.message);
                self.open.remove(&number);
            }
        }
        released
    }

    fn pop_settled(&mut self, target: u16, upto: u64) -> Option<u64> {
        self.change_target(target, |target| {
            target.settled = target.settled.max(upto);
            let (number, bytes) = target.open.pop_front_if(|(number, _)| *number <= upto)?;
            assert!(target.open_bytes >= bytes);
            target.open_bytes -= bytes;
            target.untold_bytes += bytes;
            Some(number)
        })
    }

    fn change_target<R>(&mut self, target: u16, change: impl FnOnce(&mut Target) -> R) -> R {
        let target = &mut self.targets[usize::from(target)];
        let was_full = target.open_bytes > OPEN_BYTES_MAX;
        let result = change(target);
        match (was_full, target.open_bytes > OPEN_BYTES_MAX) {
            (false, true) => self.full_count += 1,
            (true, false) => self.full_count -= 1,
            (true, true) | (false, false) => {}
        }
        result
    }

    /// The next target of which the log is to be told what it has settled, now and then; and that.
    pub(crate) fn take_crossed(&mut self, target: u16) -> Option<u64> {
        let target = &mut self.targets[usize::from(target)];
        if target.untold_bytes < TOLD_BYTES {
            return None;
        }
        target.untold_bytes = 0;
        Some(target.settled)
    }

    /// The first open transfer behind a number: its number, its message, the targets as its record has them, and the ones that have not
    /// settled it.
    pub(crate) fn open_after(&self, number: u64) -> Option<(u64, MessageKey, TargetList<'_>, ShardSet)> {
        let (&number, open) = self.open.range(number + 1..).next()?;
        Some((number, open.message, TargetList::of(&open.targets), open.left))
    }

    /// Messages that it holds, for an audit.
    pub(crate) fn messages(&self) -> impl Iterator<Item = MessageKey> + '_ {
        self.open.values().map(|open| open.message)
    }

    /// Whether a transfer was taken in before. Its source is told once more what is settled.
    pub(crate) fn has_taken(&mut self, source: u16, number: u64) -> bool {
        let source = &mut self.sources[usize::from(source)];
        let is_known = number <= source.taken;
        source.is_untold |= is_known;
        self.has_untold |= is_known;
        is_known
    }

    /// A transfer was taken in. `recorded` is the batch in which something of it is recorded.
    pub(crate) fn take(&mut self, source: u16, number: u64, recorded: Option<Batch>) {
        let source = &mut self.sources[usize::from(source)];
        assert!(number > source.taken);
        source.taken = number;
        match (recorded, source.unsynced.back_mut()) {
            (Some(batch), Some((last, upto))) if *last == batch => *upto = number,
            (Some(batch), last) => {
                assert!(last.is_none_or(|(last, _)| *last < batch));
                source.unsynced.push_back((batch, number));
            }
            // Nothing has to become durable beside what came before.
            (None, Some((_, upto))) => *upto = number,
            (None, None) => {
                source.settled = number;
                source.is_untold = true;
                self.has_untold = true;
            }
        }
        if recorded.is_some() {
            source.recorded = number;
        } else {
            self.has_unrecorded = true;
        }
    }

    /// Everything up to this batch is durable.
    pub(crate) fn on_synced(&mut self, synced: Batch) {
        for source in &mut self.sources {
            while let Some((_, upto)) = source.unsynced.pop_front_if(|(batch, _)| *batch <= synced) {
                assert!(upto > source.settled);
                source.settled = upto;
                source.is_untold = true;
                self.has_untold = true;
            }
        }
    }

    /// Whether a source has to be told what is settled.
    #[inline]
    pub(crate) fn has_untold(&self) -> bool {
        self.has_untold
    }

    /// The next source that has to be told what is settled, and that.
    pub(crate) fn next_untold(&mut self) -> Option<(u16, u64)> {
        let found = (0u16..).zip(&mut self.sources).find(|(_, source)| source.is_untold);
        self.has_untold = found.is_some();
        let (shard, source) = found?;
        source.is_untold = false;
        Some((shard, source.settled))
    }

    /// Whether transfers were taken in of which the log does not know it.
    #[inline]
    pub(crate) fn has_unrecorded(&self) -> bool {
        self.has_unrecorded
    }

    /// The next source from which transfers were taken in of which the log does not know it, and the last of them.
    pub(crate) fn next_unrecorded(&mut self) -> Option<(u16, u64)> {
        let found = (0u16..).zip(&mut self.sources).find(|(_, source)| source.recorded < source.taken);
        self.has_unrecorded = found.is_some();
        let (shard, source) = found?;
        source.recorded = source.taken;
        Some((shard, source.taken))
    }

    /// The last transfers that were taken in, by source, as far as there are any.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let taken = (0u16..).zip(&self.sources).map(|(shard, source)| (shard, source.taken));
        taken.filter(|&(_, taken)| taken > 0)
    }

    /// The last transfer of a shard that was taken in; 0 for none.
    pub(crate) fn taken_of(&self, source: u16) -> u64 {
        self.sources[usize::from(source)].taken
    }

    /// The log says that everything up to this number was taken in.
    pub(crate) fn recover_taken(&mut self, source: u16, number: u64) {
        let source = &mut self.sources[usize::from(source)];
        let taken = source.taken.max(number);
        (source.taken, source.recorded, source.settled) = (taken, taken, taken);
    }

    /// The log has an open transfer, in any order. Returns whether it was not known, and so needs a hold of the message. What is open
    /// towards each shard is counted by [`Transfers::end_recovery`].
    pub(crate) fn recover_open(&mut self, number: u64, message: MessageKey, targets: TargetList<'_>) -> bool {
        let shards = targets.iter().map(|target| target.shard());
        let left = shards.filter(|&shard| self.targets[usize::from(shard)].settled < number);
        let left = left.fold(ShardSet::default(), ShardSet::with);
        if left.is_empty() || self.is_open(number) {
            return false;
        }
        let targets = targets.bytes().to_vec();
        self.target_bytes += heap::block(targets.capacity());
        self.open.insert(number, Open { message, targets, left });
        true
    }

    /// The log, or another one, says what a target has settled. Returns the messages that are let go, of which the caller takes the
    /// holds over.
    pub(crate) fn recover_settled(&mut self, target: u16, upto: u64) -> Vec<MessageKey> {
        let settled = &mut self.targets[usize::from(target)].settled;
        *settled = upto.max(*settled);
        let Self { open, target_bytes, .. } = self;
        for (_, open) in open.range_mut(..=upto) {
            open.left = open.left.without(target);
        }
        let ended = open.extract_if(..=upto, |_, open| open.left.is_empty());
        let ended = ended.map(|(_, open)| {
            *target_bytes -= heap::block(open.targets.capacity());
            open.message
        });
        ended.collect()
    }

    /// The log was read: counts what is open towards each shard, by the bytes of its messages.
    pub(crate) fn end_recovery(&mut self, bytes_of: impl Fn(MessageKey) -> u64) {
        let open: Vec<_> =
            self.open.iter().map(|(&number, open)| (number, bytes_of(open.message), open.left)).collect();
        for (number, bytes, left) in open {
            for shard in left.iter() {
                self.push_open(shard, number, bytes);
            }
        }
    }

    fn push_open(&mut self, shard: u16, number: u64, bytes: u64) {
        self.change_target(shard, |target| {
            assert!(target.open.back().map_or(target.settled, |last| last.0) < number);
            target.open.push_back((number, bytes + TRANSFER_BYTES));
            target.open_bytes += bytes + TRANSFER_BYTES;
        });
    }

    /// Recomputes its counts, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self, own: u16) {
        let own = usize::from(own);
        assert!(self.targets[own].open.is_empty() && self.sources[own].taken == 0);
        let mut full_count = 0;
        for (shard, target) in (0u16..).zip(&self.targets) {
            assert!(target.open.iter().is_sorted_by(|before, after| before.0 < after.0));
            assert!(target.open.iter().map(|(_, bytes)| bytes).sum::<u64>() == target.open_bytes);
            let left = self.open.iter().filter(|(_, open)| open.left.contains(shard));
            assert!(left.map(|(&number, _)| number).eq(target.open.iter().map(|&(number, _)| number)));
            assert!(target.open.front().is_none_or(|&(number, _)| number > target.settled));
            full_count += u32::from(target.open_bytes > OPEN_BYTES_MAX);
        }
        assert!(full_count == self.full_count);
        assert!(self.open.values().all(|open| !open.left.is_empty()));
        let bytes = self.open.values().map(|open| heap::block(open.targets.capacity()));
        assert!(bytes.sum::<u64>() == self.target_bytes);
        for source in &self.sources {
            assert!(source.settled <= source.taken && source.recorded <= source.taken);
            assert!(source.recorded == source.taken || self.has_unrecorded);
            assert!(
                source.unsynced.iter().is_sorted_by(|before, after| before.0 < after.0 && before.1 < after.1)
            );
            assert!(source.unsynced.back().map_or(source.settled, |last| last.1) == source.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Purpose, TargetBody};

    fn targets(shards: &[u16]) -> Vec<u8> {
        let mut out = Vec::new();
        for &shard in shards {
            let purpose = Purpose::default();
            TargetBody::new(shard, purpose, (0, 1), (0, ""), (&[], 0)).encode(&mut out);
        }
        out
    }

    #[test]
    fn a_transfer_is_open_until_each_target_has_settled_it() {
        let mut transfers = Transfers::new(3);
        let key = MessageKey::new;
        for (number, shards) in [(5, &[1, 2][..]), (6, &[2]), (9, &[1])] {
            transfers.open(
                number,
                (key(u32::try_from(number).unwrap()), 10),
                TargetList::of(&targets(shards)),
            );
            transfers.check(0);
        }
        assert_eq!(transfers.settle(1, 8), []);
        transfers.check(0);
        let (number, _, list, left) = transfers.open_after(0).unwrap();
        assert_eq!((number, list.iter().count(), left), (5, 2, ShardSet::default().with(2)));
        assert_eq!(transfers.settle(2, 6), [key(5), key(6)]);
        assert_eq!(transfers.settle(2, 6), []);
        assert_eq!(transfers.settle(1, 9), [key(9)]);
        transfers.check(0);
        assert_eq!((transfers.open_count(), transfers.target_bytes), (0, 0));
    }

    #[test]
    fn too_much_towards_one_shard_is_noticed_until_it_has_caught_up() {
        let mut transfers = Transfers::new(3);
        let list = targets(&[1]);
        for number in 1..=17 {
            assert!(!transfers.is_full());
            transfers.open(number, (MessageKey::new(0), 1024 * 1024), TargetList::of(&list));
            transfers.check(0);
            if transfers.is_full() {
                assert!(number >= 16);
                assert_eq!(transfers.full_targets(), ShardSet::default().with(1));
                assert_eq!(transfers.settle(1, number).len() as u64, number);
                assert_eq!(transfers.take_crossed(1), Some(number));
                assert_eq!(transfers.take_crossed(1), None);
                return;
            }
        }
        panic!("it was never full");
    }

    #[test]
    fn transfers_are_settled_in_order_once_their_records_are_durable() {
        let mut transfers = Transfers::new(2);
        transfers.take(1, 3, None);
        assert_eq!(transfers.next_untold(), Some((1, 3)));
        transfers.take(1, 4, Some(Batch(1)));
        transfers.take(1, 6, Some(Batch(2)));
        // It needs no record, and waits for the one before.
        transfers.take(1, 7, None);
        assert!(transfers.has_unrecorded());
        assert_eq!((transfers.next_unrecorded(), transfers.next_unrecorded()), (Some((1, 7)), None));
        transfers.check(0);
        assert_eq!(transfers.next_untold(), None);
        transfers.on_synced(Batch(1));
        assert_eq!(transfers.next_untold(), Some((1, 4)));
        assert!(transfers.has_taken(1, 7) && transfers.has_taken(1, 2) && !transfers.has_taken(1, 8));
        assert_eq!(transfers.next_untold(), Some((1, 4)), "a repetition is answered");
        transfers.on_synced(Batch(2));
        assert_eq!((transfers.next_untold(), transfers.next_untold()), (Some((1, 7)), None));
        transfers.check(0);
    }

    #[test]
    fn a_log_brings_back_what_was_taken_in() {
        let mut transfers = Transfers::new(2);
        transfers.recover_taken(1, 7);
        transfers.recover_taken(1, 5);
        assert!(transfers.has_taken(1, 7) && !transfers.has_taken(1, 8));
        assert_eq!(transfers.taken().collect::<Vec<_>>(), [(1, 7)]);
        transfers.check(0);
    }

    #[test]
    fn a_log_brings_back_what_is_open_in_any_order() {
        let mut transfers = Transfers::new(3);
        let key = MessageKey::new;
        let both = targets(&[1, 2]);
        for number in [7, 5, 6, 7] {
            let is_new = transfers.recover_open(u64::from(number), key(number), TargetList::of(&both));
            assert_eq!(is_new, number != 7 || transfers.open_count() == 1);
        }
        assert_eq!(transfers.recover_settled(1, 6), []);
        assert_eq!(transfers.recover_settled(2, 5), [key(5)]);
        // It is settled, whatever comes first.
        assert!(!transfers.recover_open(4, key(4), TargetList::of(&targets(&[1]))));
        transfers.end_recovery(|_| 10);
        transfers.check(0);
        assert_eq!(transfers.settle(2, 7), [key(6)]);
        assert_eq!(transfers.settle(1, 7), [key(7)]);
        transfers.check(0);
    }
}
