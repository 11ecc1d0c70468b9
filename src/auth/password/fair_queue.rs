//! The queue in front of slow hashes. Addresses are served in turn, so that one that asks for thousands does not keep others out, and
//! a fleet behind one address has everything that others leave.
//! Bound: `jobs_max` jobs. When it is full, the newest job of the address with the most jobs leaves; that may be the one that came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

/// The group of peers that is served as one: an IPv4 address, or a network of IPv6, since a household has 2⁶⁴ addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerGroup {
    /// Peers without an address, such as those of a unix socket.
    Local,
    /// An address, or the first address of its network.
    Address(IpAddr),
}

impl PeerGroup {
    /// The group of a peer.
    pub(crate) fn of(peer: Option<IpAddr>) -> Self {
        match peer.map(|address| address.to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V4(address)) => Self::Address(address.into()),
            Some(IpAddr::V6(address)) => {
                Self::Address(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
            }
        }
    }
}

/// Jobs by group, and the order in which the groups are served.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    jobs_max: usize,
    jobs_count: usize,
    groups: BTreeMap<PeerGroup, VecDeque<T>>,
    /// Groups with jobs, the next one first.
    turns: VecDeque<PeerGroup>,
    /// The same groups by the number of their jobs.
    lengths: BTreeSet<(usize, PeerGroup)>,
}

impl<T> FairQueue<T> {
    /// A queue of at most `jobs_max` jobs.
    pub(crate) fn new(jobs_max: usize) -> Self {
        Self {
            jobs_max,
            jobs_count: 0,
            groups: BTreeMap::new(),
            turns: VecDeque::new(),
            lengths: BTreeSet::new(),
        }
    }

    /// Adds a job, and returns the one that leaves because the queue is full.
    pub(crate) fn push(&mut self, group: PeerGroup, job: T) -> Option<T> {
        let jobs = self.groups.entry(group).or_default();
        if jobs.is_empty() {
            self.turns.push_back(group);
        }
        self.lengths.remove(&(jobs.len(), group));
        jobs.push_back(job);
        self.lengths.insert((jobs.len(), group));
        self.jobs_count += 1;
        if self.jobs_count <= self.jobs_max { None } else { self.evict() }
    }

    /// The next job.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let group = self.turns.pop_front()?;
        let job = self.take(group, VecDeque::pop_front);
        if self.groups.contains_key(&group) {
            self.turns.push_back(group);
        }
        job
    }

    fn evict(&mut self) -> Option<T> {
        let (_, group) = *self.lengths.last()?;
        let job = self.take(group, VecDeque::pop_back);
        if !self.groups.contains_key(&group) {
            self.turns.retain(|other| *other != group);
        }
        job
    }

    fn take(&mut self, group: PeerGroup, take: fn(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
        let jobs = self.groups.get_mut(&group)?;
        self.lengths.remove(&(jobs.len(), group));
        let job = take(jobs);
        self.jobs_count -= usize::from(job.is_some());
        if jobs.is_empty() {
            self.groups.remove(&group);
        } else {
            self.lengths.insert((jobs.len(), group));
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(last: u8) -> PeerGroup {
        PeerGroup::of(Some(IpAddr::from([192, 0, 2, last])))
    }

    fn drain<T>(queue: &mut FairQueue<T>) -> Vec<T> {
        let jobs = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(queue.jobs_count, 0);
        assert!(queue.groups.is_empty() && queue.turns.is_empty() && queue.lengths.is_empty());
        jobs
    }

    #[test]
    fn addresses_are_served_in_turn() {
        let mut queue = FairQueue::new(10);
        for job in ["a1", "a2", "a3", "b1", "c1", "c2"] {
            let last = job.as_bytes()[0];
            assert_eq!(queue.push(group(last), job), None);
        }
        assert_eq!(drain(&mut queue), ["a1", "b1", "c1", "a2", "c2", "a3"]);
    }

    #[test]
    fn a_full_queue_loses_the_newest_job_of_the_longest_address() {
        let mut queue = FairQueue::new(4);
        for job in ["a1", "a2", "a3", "b1"] {
            queue.push(group(job.as_bytes()[0]), job);
        }
        assert_eq!(queue.push(group(b'a'), "a4"), Some("a4"), "its own");
        assert_eq!(queue.push(group(b'c'), "c1"), Some("a3"), "another's");
        assert_eq!(drain(&mut queue), ["a1", "b1", "c1", "a2"]);
    }

    #[test]
    fn one_address_alone_has_the_whole_queue() {
        let mut queue = FairQueue::new(3);
        for job in 0..3 {
            assert_eq!(queue.push(PeerGroup::Local, job), None);
        }
        assert_eq!(queue.push(PeerGroup::Local, 3), Some(3));
        assert_eq!(drain(&mut queue), [0, 1, 2]);
        let mut none = FairQueue::new(0);
        assert_eq!(none.push(PeerGroup::Local, 1), Some(1));
        assert_eq!(drain(&mut none), [0; 0]);
    }

    #[test]
    fn a_network_of_ipv6_is_one_group() {
        let of = |text: &str| PeerGroup::of(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), group(1));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
