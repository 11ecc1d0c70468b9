//! Watermarks of retained updates: the numbers of the updates that were sent, applied and required.
//!
//! Invariant: a home answers a page request only after it has applied every update that the request requires. Without that, an answer
//! could miss an update, because a request and an update travel on different lanes and the request may come first. The requesting
//! shard therefore names, for each shard, the last required update: one that it saw pass live, or one that was sent before its
//! publisher's shard knew of the subscription.

use alloc::vec;
use alloc::vec::Vec;

use crate::message::origin::Origin;

/// **Lives on:** every shard. **Sees:** the numbers of the updates that passed between shards.
#[derive(Debug)]
pub(crate) struct Watermarks {
    /// `sent[home]`: the last update that this shard sent to `home`. 0 is none, here and below.
    sent: Vec<u64>,
    /// `applied[source]`: the last update of `source` that was applied here.
    applied: Vec<u64>,
    /// `required[home][source]`: the last update of `source` that `home` must have applied before its answer is valid.
    required: Vec<Vec<u64>>,
    /// `reported[target][home]`: the value of `sent[home]` in the last report to `target`.
    reported: Vec<Vec<u64>>,
    /// `acknowledged[shard]`: the announcements of this shard that `shard` had taken in when it reported last.
    acknowledged: Vec<u64>,
}

impl Watermarks {
    pub(crate) fn new(own: u16, shard_count: usize) -> Self {
        let mut acknowledged = vec![0; shard_count];
        acknowledged[usize::from(own)] = u64::MAX;
        Self {
            sent: vec![0; shard_count],
            applied: vec![0; shard_count],
            required: vec![vec![0; shard_count]; shard_count],
            reported: vec![vec![0; shard_count]; shard_count],
            acknowledged,
        }
    }

    /// An update of this shard goes to `home`.
    pub(crate) fn record_sent(&mut self, home: u16, update: Origin) {
        let sent = &mut self.sent[usize::from(home)];
        assert!(update.sequence > *sent);
        *sent = update.sequence;
        // Its publisher may subscribe on this shard before the update arrives.
        self.require(home, update);
    }

    /// An update was applied here, at its home.
    pub(crate) fn apply(&mut self, update: Origin) {
        let applied = &mut self.applied[usize::from(update.shard)];
        assert!(update.sequence > *applied);
        *applied = update.sequence;
    }

    /// The log has all updates of `source` up to this one, so they are applied here, at their home.
    pub(crate) fn recover_applied(&mut self, source: u16, sequence: u64) {
        let applied = &mut self.applied[usize::from(source)];
        assert!(*applied == 0, "nothing has come yet");
        *applied = sequence;
    }

    /// From now on, `home` must have applied this update before its answer is valid.
    pub(crate) fn require(&mut self, home: u16, update: Origin) {
        let required = &mut self.required[usize::from(home)][usize::from(update.shard)];
        *required = update.sequence.max(*required);
    }

    /// `source` had taken in `seen` announcements of this shard when it reported its updates.
    pub(crate) fn acknowledge(&mut self, source: u16, seen: u64) {
        let acknowledged = &mut self.acknowledged[usize::from(source)];
        assert!(seen >= *acknowledged);
        *acknowledged = seen;
    }

    /// Announcements of this shard that every other shard had taken in when it reported last.
    pub(crate) fn acknowledged_by_all(&self) -> u64 {
        self.acknowledged.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// The updates that `home` must have applied before its answer is valid.
    pub(crate) fn required(&self, home: u16) -> Vec<Origin> {
        list(&self.required[usize::from(home)], |_, required| required > 0)
    }

    /// Whether all of these updates were applied here.
    pub(crate) fn has_applied(&self, required: &[Origin]) -> bool {
        required.iter().all(|required| self.applied[usize::from(required.shard)] >= required.sequence)
    }

    /// This shard has no update on its way to itself, and reported none that it did not send: for an audit.
    ///
    /// # Panics
    /// If that is not so.
    pub(crate) fn check(&self, own: u16) {
        let own = usize::from(own);
        assert!(self.sent[own] == 0 && self.applied[own] == 0);
        for (home, &sent) in self.sent.iter().enumerate() {
            assert!(self.reported.iter().all(|reported| reported[home] <= sent));
            assert!(self.required[home][own] >= sent);
        }
    }

    /// The updates that were not reported to `target` yet: the last one for each home. The shard of each is
    /// that home.
    pub(crate) fn report(&mut self, target: u16) -> Vec<Origin> {
        let reported = &mut self.reported[usize::from(target)];
        assert!(reported.iter().zip(&self.sent).all(|(reported, sent)| reported <= sent));
        let report = list(&self.sent, |home, sent| sent > reported[home]);
        reported.clone_from(&self.sent);
        report
    }
}

fn list(all: &[u64], wanted: impl Fn(usize, u64) -> bool) -> Vec<Origin> {
    (0u16..)
        .zip(all)
        .filter(|&(shard, &sequence)| wanted(usize::from(shard), sequence))
        .map(|(shard, &sequence)| Origin { shard, sequence })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn update(shard: u16, sequence: u64) -> Origin {
        Origin { shard, sequence }
    }

    #[test]
    fn an_answer_waits_for_what_the_asking_shard_saw_or_sent() {
        let (mut home, mut asker) = (Watermarks::new(1, 3), Watermarks::new(2, 3));
        asker.require(1, update(0, 5));
        asker.require(1, update(0, 3));
        asker.record_sent(1, update(2, 9));
        let required = asker.required(1);
        assert_eq!(required, [update(0, 5), update(2, 9)]);
        home.apply(update(0, 7));
        assert!(!home.has_applied(&required));
        home.apply(update(2, 9));
        assert!(home.has_applied(&required));
        assert!(asker.required(0).is_empty());
    }

    #[test]
    fn a_report_tells_what_is_new_and_each_shard_reports_by_itself() {
        let mut publisher = Watermarks::new(0, 3);
        publisher.record_sent(1, update(0, 4));
        publisher.record_sent(1, update(0, 6));
        // The shard of a reported update is its home.
        assert_eq!(publisher.report(2), [update(1, 6)]);
        assert!(publisher.report(2).is_empty());
        assert_eq!(publisher.report(1), [update(1, 6)]);
        let mut asker = Watermarks::new(2, 3);
        asker.acknowledge(0, 4);
        assert_eq!(asker.acknowledged_by_all(), 0);
        asker.acknowledge(1, 3);
        assert_eq!(asker.acknowledged_by_all(), 3);
    }
}
