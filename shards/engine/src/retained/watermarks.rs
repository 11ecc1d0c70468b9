//! Retained updates on their way to the homes of their topics: a home answers a question only once it has
//! stored what the shard that asks could miss otherwise.
//! Knows no message and no lane.
//!
//! A question and an update travel on different lanes, so the question may come first. Whoever asks
//! therefore names, for each shard, the last update that its answer has to count: one it saw pass live, or one
//! that was sent before its publisher's shard knew of the subscription.

use alloc::vec;
use alloc::vec::Vec;

use crate::message::origin::Origin;

/// **Lives on:** every shard. **Sees:** which updates passed between shards.
#[derive(Debug)]
pub(crate) struct Watermarks {
    /// By home: the last update that this shard sent there; 0 is none, here and below.
    sent: Vec<u64>,
    /// By source: its last update taken in here.
    applied: Vec<u64>,
    /// By home, then by source: the last update that an answer of that home has to count.
    required: Vec<Vec<u64>>,
    /// By target, then by home: what of `sent` the target was reported.
    reported: Vec<Vec<u64>>,
    /// By shard: announcements of ours that it had taken in when it reported last.
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

    /// An update was taken in here, at its home.
    pub(crate) fn apply(&mut self, update: Origin) {
        let applied = &mut self.applied[usize::from(update.shard)];
        assert!(update.sequence > *applied);
        *applied = update.sequence;
    }

    /// From now on, answers of `home` have to count this update.
    pub(crate) fn require(&mut self, home: u16, update: Origin) {
        let required = &mut self.required[usize::from(home)][usize::from(update.shard)];
        *required = update.sequence.max(*required);
    }

    /// `source` had taken in so many of our announcements before it reported what it had sent.
    pub(crate) fn acknowledge(&mut self, source: u16, seen: u64) {
        let acknowledged = &mut self.acknowledged[usize::from(source)];
        assert!(seen >= *acknowledged);
        *acknowledged = seen;
    }

    /// Announcements of ours before which every other shard has reported what it sent.
    pub(crate) fn acknowledged_by_all(&self) -> u64 {
        self.acknowledged.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// What an answer of `home` has to count.
    pub(crate) fn required(&self, home: u16) -> Vec<Origin> {
        list(&self.required[usize::from(home)], |_, required| required > 0)
    }

    /// Whether everything of that was taken in here.
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

    /// What `target` does not know yet of what was sent: the last update for each home, whose number stands in
    /// the place of the shard.
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
        // The shard of such a pair is the home.
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
