//! Several threads, each a shard that sleeps when it may. Nothing is lost, reordered or left asleep, and no lane has more
//! blocks than its bound.
#![cfg(not(loom))]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use ring::{Capacity, Item, Lane, Parked, Port, mesh};

/// Time limit for a wake-up, far longer than a loaded machine delays a thread. A shard that sleeps longer was forgotten.
const WAKE_WITHIN: Duration = Duration::from_mins(1);

/// Sends the numbers below `per_lane` to every other shard on each lane, packed several to a block with single values
/// between the blocks, and receives as many from each. Every received number is acknowledged. A shard ends when all it
/// sent is acknowledged.
struct Shard {
    port: Port<u64>,
    doorbell: Receiver<()>,
    bells: Vec<Sender<()>>,
    peers: Vec<Option<Peer>>,
    per_lane: u64,
    capacity: Capacity,
}

#[derive(Default)]
struct Peer {
    sent: [u64; 2],
    taken: [u64; 2],
}

#[derive(Debug, Default)]
struct Tally {
    parked: u64,
    slept: u64,
    rung: u64,
}

impl Shard {
    fn run(mut self) -> Tally {
        let mut tally = Tally::default();
        loop {
            self.port.unpark();
            for source in self.port.others() {
                self.take_all(source);
            }
            for target in self.port.others() {
                self.send_some(target);
            }
            for other in self.port.others() {
                if self.port.wake_needed(other) {
                    tally.rung += 1;
                    // A shard that has ended received everything, so its doorbell is not needed.
                    let _left = self.bells[other].send(());
                }
            }
            if self.done() {
                break;
            }
            tally.parked += 1;
            if self.port.park() == Parked::Sleep {
                tally.slept += 1;
                self.doorbell.recv_timeout(WAKE_WITHIN).expect("the shard that made work rings");
            }
        }
        assert!(self.port.is_idle());
        for target in self.port.others() {
            for lane in Lane::ALL {
                assert!(self.port.blocks_alive(target, lane) <= self.items(lane) + 2);
            }
        }
        tally
    }

    fn items(&self, lane: Lane) -> usize {
        match lane {
            Lane::Data => self.capacity.data_items,
            Lane::Control => self.capacity.control_items,
        }
    }

    fn take_all(&mut self, source: usize) {
        let peer = self.peers[source].as_mut().expect("another shard");
        for (taken, lane) in peer.taken.iter_mut().zip(Lane::ALL) {
            while let Some(item) = self.port.pop(source, lane) {
                match item {
                    Item::Block(block) => {
                        for number in block.chunks(8) {
                            assert_eq!(u64::from_le_bytes(number.try_into().expect("whole numbers")), *taken);
                            *taken += 1;
                        }
                        self.port.give_back(source, lane, block);
                    }
                    Item::Other(number) => {
                        assert_eq!(number, *taken);
                        *taken += 1;
                    }
                }
            }
        }
        let taken = peer.taken[0] + peer.taken[1];
        self.port.acknowledge(source, taken);
    }

    fn send_some(&mut self, target: usize) {
        let peer = self.peers[target].as_mut().expect("another shard");
        for (sent, lane) in peer.sent.iter_mut().zip(Lane::ALL) {
            while *sent < self.per_lane {
                if self.port.free(target, lane) == 0 {
                    self.port.want_credit(target, lane, 1);
                    break;
                }
                let item = if sent.is_multiple_of(7) {
                    *sent += 1;
                    Item::Other(*sent - 1)
                } else {
                    let mut block = self.port.empty_block(target, lane);
                    while *sent < self.per_lane && !sent.is_multiple_of(7) && block.room() >= 8 {
                        block.as_mut().extend_from_slice(&sent.to_le_bytes());
                        *sent += 1;
                    }
                    Item::Block(block)
                };
                self.port.push(target, lane, item).expect("a free slot stays free for its producer");
            }
        }
    }

    fn done(&self) -> bool {
        self.peers.iter().enumerate().all(|(other, peer)| {
            let Some(peer) = peer else { return true };
            peer.taken == [self.per_lane; 2] && self.port.acknowledged(other) == 2 * self.per_lane
        })
    }
}

fn check(shard_count: usize, capacity: Capacity, per_lane: u64) {
    let (bells, doorbells): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| channel()).unzip();
    let shards = mesh(shard_count, capacity).into_iter().zip(doorbells).map(|(port, doorbell)| Shard {
        peers: (0..shard_count).map(|other| (other != port.own()).then(Peer::default)).collect(),
        port,
        doorbell,
        bells: bells.clone(),
        per_lane,
        capacity,
    });
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let threads: Vec<_> = shards.map(|shard| scope.spawn(|| shard.run())).collect();
        threads.into_iter().map(|thread| thread.join().expect("a shard ends well")).collect()
    });
    let total = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
    let (parked, slept, rung) =
        (total(|tally| tally.parked), total(|tally| tally.slept), total(|tally| tally.rung));
    assert!(slept > 0, "no shard ever slept, so the doorbells were not tested");
    assert!(rung <= parked, "{rung} rings for {parked} parks: each ring clears the flag that one park set");
}

#[test]
fn two_shards_with_little_room_lose_nothing_and_wake_each_other() {
    check(2, Capacity { data_items: 2, control_items: 1, block_bytes: 32 }, 100_000);
}

#[test]
fn two_shards_with_much_room_lose_nothing_and_wake_each_other() {
    check(2, Capacity::DEFAULT, 1_000_000);
}

#[test]
fn four_shards_all_to_all_lose_nothing_and_wake_each_other() {
    check(4, Capacity { data_items: 4, control_items: 2, block_bytes: 64 }, 20_000);
}
