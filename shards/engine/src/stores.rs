//! Retained updates on their way to the homes of their topics, counted, so that a home answers a question
//! only once it has stored what the shard that asks could miss otherwise.
//! Knows no message and no lane.
//!
//! A question and an update travel on different lanes, so the question may come first. Whoever asks
//! therefore says how many updates of each shard its answer has to count: those it saw pass live before its
//! subscription, and those that were sent before their publisher's shard knew of the subscription.

use alloc::vec;
use alloc::vec::Vec;

use crate::topology::ShardSet;

/// Updates that a shard sent to one home, since the start; or as many of them as matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StoreCount {
    /// In a question, the shard that sent them; in a report, the home they were sent to.
    pub(crate) shard: u16,
    pub(crate) count: u64,
}

/// **Lives on:** every shard. **Sees:** counts of what passed between shards.
#[derive(Debug)]
pub(crate) struct Stores {
    /// By home: updates that this shard sent there.
    sent: Vec<u64>,
    /// By source: updates of that shard taken in here.
    taken: Vec<u64>,
    /// By home, then by source: updates that an answer of that home has to count.
    due: Vec<Vec<u64>>,
    /// By target, then by home: how much of `sent` the target was told.
    told: Vec<Vec<u64>>,
    /// By shard: announcements of ours that it had taken in when it reported last.
    heard: Vec<u64>,
    /// Shards that announced something and are owed a report.
    pub(crate) owed: ShardSet,
}

impl Stores {
    pub(crate) fn new(own: u16, shard_count: usize) -> Self {
        let mut heard = vec![0; shard_count];
        heard[usize::from(own)] = u64::MAX;
        Self {
            sent: vec![0; shard_count],
            taken: vec![0; shard_count],
            due: vec![vec![0; shard_count]; shard_count],
            told: vec![vec![0; shard_count]; shard_count],
            heard,
            owed: ShardSet::default(),
        }
    }

    /// An update of this shard, `own`, goes to `home`. Returns its number.
    pub(crate) fn send(&mut self, own: u16, home: u16) -> u64 {
        let sent = &mut self.sent[usize::from(home)];
        *sent += 1;
        // Its publisher may subscribe on this shard before the update arrives.
        self.due[usize::from(home)][usize::from(own)] = *sent;
        *sent
    }

    /// An update of `source` was taken in here.
    pub(crate) fn take(&mut self, source: u16) {
        self.taken[usize::from(source)] += 1;
    }

    /// From now on, answers of `home` have to count so many updates of `source`.
    pub(crate) fn hear(&mut self, home: u16, source: u16, count: u64) {
        let due = &mut self.due[usize::from(home)][usize::from(source)];
        *due = count.max(*due);
    }

    /// `source` had taken in so many of our announcements before it reported what it had sent.
    pub(crate) fn hear_all(&mut self, source: u16, seen: u64) {
        let heard = &mut self.heard[usize::from(source)];
        assert!(seen >= *heard);
        *heard = seen;
    }

    /// Announcements of ours before which every other shard has reported what it sent.
    pub(crate) fn heard_from_all(&self) -> u64 {
        self.heard.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// What an answer of `home` has to count.
    pub(crate) fn due(&self, home: u16) -> Vec<StoreCount> {
        counts(&self.due[usize::from(home)], |_, due| due > 0)
    }

    /// Whether everything of that was taken in here.
    pub(crate) fn has_taken(&self, due: &[StoreCount]) -> bool {
        due.iter().all(|due| self.taken[usize::from(due.shard)] >= due.count)
    }

    /// What `target` does not know yet of what was sent.
    pub(crate) fn report(&mut self, target: u16) -> Vec<StoreCount> {
        let told = &mut self.told[usize::from(target)];
        let report = counts(&self.sent, |home, sent| sent > told[home]);
        told.clone_from(&self.sent);
        report
    }
}

fn counts(all: &[u64], wanted: impl Fn(usize, u64) -> bool) -> Vec<StoreCount> {
    (0u16..)
        .zip(all)
        .filter(|&(shard, &count)| wanted(usize::from(shard), count))
        .map(|(shard, &count)| StoreCount { shard, count })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_what_the_asking_shard_saw_or_sent() {
        let (mut publisher, mut home, mut asker) = (Stores::new(0, 3), Stores::new(1, 3), Stores::new(2, 3));
        let number = publisher.send(0, 1);
        asker.hear(1, 0, number);
        asker.send(2, 1);
        let due = asker.due(1);
        assert_eq!(due, [StoreCount { shard: 0, count: 1 }, StoreCount { shard: 2, count: 1 }]);
        home.take(0);
        assert!(!home.has_taken(&due));
        home.take(2);
        assert!(home.has_taken(&due));
        assert!(asker.due(0).is_empty());
    }

    #[test]
    fn a_report_tells_what_is_new_and_each_shard_reports_by_itself() {
        let mut publisher = Stores::new(0, 3);
        publisher.send(0, 1);
        publisher.send(0, 1);
        assert_eq!(publisher.report(2), [StoreCount { shard: 1, count: 2 }]);
        assert!(publisher.report(2).is_empty());
        assert_eq!(publisher.report(1), [StoreCount { shard: 1, count: 2 }]);
        let mut asker = Stores::new(2, 3);
        asker.hear_all(0, 4);
        assert_eq!(asker.heard_from_all(), 0);
        asker.hear_all(1, 3);
        assert_eq!(asker.heard_from_all(), 3);
    }
}
