//! The lanes between shards: bounded FIFO queues.

use std::collections::VecDeque;

use engine::{LaneKind, OutboundItem};

/// Both lanes of each ordered pair of shards.
#[derive(Debug)]
pub(crate) struct Lanes {
    shard_count: usize,
    data_capacity: usize,
    control_capacity: usize,
    pairs: Vec<[VecDeque<OutboundItem>; 2]>,
}

pub(crate) const BOTH: [LaneKind; 2] = [LaneKind::Data, LaneKind::Control];

impl Lanes {
    pub(crate) fn new(shard_count: usize, data_capacity: usize, control_capacity: usize) -> Self {
        let mut pairs = Vec::new();
        pairs.resize_with(shard_count * shard_count, Default::default);
        Self { shard_count, data_capacity, control_capacity, pairs }
    }

    pub(crate) fn has_room(&self, source: usize, target: usize, lane: LaneKind) -> bool {
        let capacity = match lane {
            LaneKind::Data => self.data_capacity,
            LaneKind::Control => self.control_capacity,
        };
        self.pairs[source * self.shard_count + target][lane as usize].len() < capacity
    }

    pub(crate) fn push(&mut self, source: usize, target: usize, lane: LaneKind, outbound: OutboundItem) {
        assert!(self.has_room(source, target, lane));
        self.pairs[source * self.shard_count + target][lane as usize].push_back(outbound);
    }

    pub(crate) fn len(&self, source: usize, target: usize, lane: LaneKind) -> usize {
        self.pairs[source * self.shard_count + target][lane as usize].len()
    }

    pub(crate) fn pop(&mut self, source: usize, target: usize, lane: LaneKind) -> Option<OutboundItem> {
        self.pairs[source * self.shard_count + target][lane as usize].pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.iter().flatten().all(VecDeque::is_empty)
    }
}
