//! Tries every interleaving of two or three shards that park and wake each other, under the language's memory model.
//! `RUSTFLAGS="--cfg loom" cargo test -p mqtt-broker-ring --test loom --release`
//!
//! The port under test is the real one. Only the ring beneath a lane is a stand-in, with `rtrb`'s positions and orderings
//! in loom's atomics (see `sync`). A lost wake-up leaves a thread waiting for its doorbell, which loom reports as a
//! deadlock.
#![cfg(loom)]

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use ring::{Capacity, Item, Lane, Parked, Port, mesh};

const CAPACITY: Capacity = Capacity { data_items: 1, control_items: 1, block_bytes: 4 };

/// Keeps a ring until the next wait, like an eventfd.
struct Doorbell {
    rung: Mutex<bool>,
    changed: Condvar,
    rung_count: AtomicUsize,
}

impl Doorbell {
    fn new() -> Arc<Self> {
        Arc::new(Self { rung: Mutex::new(false), changed: Condvar::new(), rung_count: AtomicUsize::new(0) })
    }

    fn ring(&self) {
        self.rung_count.fetch_add(1, Ordering::Relaxed);
        *self.rung.lock().expect("no thread panics while holding it") = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().expect("no thread panics while holding it");
        while !*rung {
            rung = self.changed.wait(rung).expect("no thread panics while holding it");
        }
        *rung = false;
    }

    fn rung_count(&self) -> usize {
        self.rung_count.load(Ordering::Relaxed)
    }
}

/// Three threads have too many interleavings to try them all: only those with at most this many preemptions are tried.
fn check(preemptions_max: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    builder.check(model);
}

/// Runs turns until `turn` returns true, sleeping whenever possible. Returns how often the port parked.
fn turn_until(
    port: &mut Port<u8>,
    doorbell: &Doorbell,
    mut turn: impl FnMut(&mut Port<u8>) -> bool,
) -> usize {
    let mut parked_count = 0;
    loop {
        port.unpark();
        if turn(port) {
            return parked_count;
        }
        for other in port.others() {
            // In the models that use this, this side never makes work for a sleeping shard.
            assert!(!port.wake_needed(other));
        }
        parked_count += 1;
        match port.park() {
            Parked::Sleep => doorbell.wait(),
            Parked::Work => {}
        }
    }
}

/// Ends a turn that made work for `target`, and checks that a second call does not ring again.
fn ring_if_needed(port: &mut Port<u8>, target: usize, doorbell: &Doorbell) {
    if port.wake_needed(target) {
        doorbell.ring();
    }
    assert!(!port.wake_needed(target), "one ring a turn");
}

#[test]
fn one_sender_loses_no_wake_up() {
    check(Some(5), || {
        let doorbell = Doorbell::new();
        let mut ports = mesh(2, CAPACITY);
        let mut receiver = ports.pop().unwrap();
        let mut sender = ports.pop().unwrap();
        let bell = Arc::clone(&doorbell);
        let sending = thread::spawn(move || {
            sender.push(1, Lane::Data, Item::Other(1)).unwrap();
            ring_if_needed(&mut sender, 1, &bell);
            sender.push(1, Lane::Control, Item::Other(2)).unwrap();
            ring_if_needed(&mut sender, 1, &bell);
        });
        let mut taken = 0;
        let parked_count = turn_until(&mut receiver, &doorbell, |port| {
            taken += Lane::ALL.iter().filter(|&&lane| port.pop(0, lane).is_some()).count();
            taken == 2
        });
        sending.join().unwrap();
        assert!(receiver.is_idle());
        assert!(doorbell.rung_count() <= parked_count, "each park is rung for at most once");
    });
}

#[test]
fn two_senders_lose_no_wake_up_and_ring_once_between_them() {
    check(Some(4), || {
        let doorbell = Doorbell::new();
        let mut ports = mesh(3, CAPACITY);
        let mut receiver = ports.pop().unwrap();
        let sending: Vec<_> = ports
            .into_iter()
            .map(|mut sender| {
                let bell = Arc::clone(&doorbell);
                thread::spawn(move || {
                    sender.push(2, Lane::Data, Item::Other(1)).unwrap();
                    ring_if_needed(&mut sender, 2, &bell);
                })
            })
            .collect();
        let mut taken = 0;
        let parked_count = turn_until(&mut receiver, &doorbell, |port| {
            taken += (0..2).filter(|&source| port.pop(source, Lane::Data).is_some()).count();
            taken == 2
        });
        for sender in sending {
            sender.join().unwrap();
        }
        assert!(doorbell.rung_count() <= parked_count, "each park is rung for at most once");
    });
}

#[test]
fn an_acknowledgement_loses_no_wake_up() {
    check(Some(5), || {
        let doorbell = Doorbell::new();
        let mut ports = mesh(2, CAPACITY);
        let mut waits = ports.pop().unwrap();
        let mut acknowledges = ports.pop().unwrap();
        let bell = Arc::clone(&doorbell);
        let acknowledging = thread::spawn(move || {
            for count in 1..=2 {
                acknowledges.acknowledge(1, count);
                ring_if_needed(&mut acknowledges, 1, &bell);
            }
        });
        let parked_count = turn_until(&mut waits, &doorbell, |port| port.acknowledged(0) == 2);
        acknowledging.join().unwrap();
        assert!(doorbell.rung_count() <= parked_count, "each park is rung for at most once");
    });
}

#[test]
fn an_unread_acknowledgement_causes_no_busy_loop() {
    check(None, || {
        let mut ports = mesh::<u8>(2, CAPACITY);
        let mut parks = ports.pop().unwrap();
        let mut acknowledges = ports.pop().unwrap();
        let acknowledging = thread::spawn(move || acknowledges.acknowledge(1, 1));
        parks.unpark();
        let works = (0..2).take_while(|_| parks.park() == Parked::Work).count();
        assert!(works <= 1, "one acknowledgement is one turn's work");
        acknowledging.join().unwrap();
    });
}

#[test]
fn wanted_credit_loses_no_wake_up() {
    check(None, || {
        let doorbell = Doorbell::new();
        let mut ports = mesh(2, CAPACITY);
        let mut takes = ports.pop().unwrap();
        let mut wants = ports.pop().unwrap();
        wants.push(1, Lane::Data, Item::Other(1)).unwrap();
        let bell = Arc::clone(&doorbell);
        let taking = thread::spawn(move || {
            assert_eq!(takes.pop(0, Lane::Data), Some(Item::Other(1)));
            ring_if_needed(&mut takes, 0, &bell);
            takes
        });
        let parked_count = turn_until(&mut wants, &doorbell, |port| {
            if port.push(1, Lane::Data, Item::Other(2)).is_ok() {
                return true;
            }
            port.want_credit(1, Lane::Data, 1);
            false
        });
        let mut takes = taking.join().unwrap();
        assert_eq!(takes.pop(0, Lane::Data), Some(Item::Other(2)));
        assert!(doorbell.rung_count() <= parked_count, "each park is rung for at most once");
    });
}

/// The first slot wakes the producer while it wants two, so it waits again: a flag left over from the first request must
/// not hide the second.
#[test]
fn credit_wanted_twice_loses_no_wake_up() {
    check(Some(4), || {
        let doorbell = Doorbell::new();
        let mut ports = mesh(2, Capacity { data_items: 2, ..CAPACITY });
        let mut takes = ports.pop().unwrap();
        let mut wants = ports.pop().unwrap();
        wants.push(1, Lane::Data, Item::Other(1)).unwrap();
        wants.push(1, Lane::Data, Item::Other(2)).unwrap();
        let _awake = wants.wake_needed(1);
        let bell = Arc::clone(&doorbell);
        let taking = thread::spawn(move || {
            for number in 1..=2 {
                assert_eq!(takes.pop(0, Lane::Data), Some(Item::Other(number)));
                ring_if_needed(&mut takes, 0, &bell);
            }
        });
        turn_until(&mut wants, &doorbell, |port| {
            port.want_credit(1, Lane::Data, 2);
            port.free(1, Lane::Data) == 2
        });
        taking.join().unwrap();
    });
}

/// Both sides send, acknowledge and sleep, and either may have to wake the other.
#[test]
fn two_shards_that_wake_each_other_both_end() {
    check(Some(4), || {
        let bells = [Doorbell::new(), Doorbell::new()];
        let ports = mesh(2, CAPACITY);
        let run = |mut port: Port<u8>, bells: [Arc<Doorbell>; 2]| {
            let own = port.own();
            let other = 1 - own;
            let mut taken = false;
            port.push(other, Lane::Data, Item::Other(1)).unwrap();
            loop {
                port.unpark();
                if port.pop(other, Lane::Data).is_some() {
                    taken = true;
                    port.acknowledge(other, 1);
                }
                if port.wake_needed(other) {
                    bells[other].ring();
                }
                if taken && port.acknowledged(other) == 1 {
                    return;
                }
                if port.park() == Parked::Sleep {
                    bells[own].wait();
                }
            }
        };
        let mut ports = ports.into_iter();
        let (first, second) = (ports.next().unwrap(), ports.next().unwrap());
        let second_bells = bells.clone();
        let other = thread::spawn(move || run(second, second_bells));
        run(first, bells);
        other.join().unwrap();
    });
}

/// Sends more blocks than the lane may have, so the producer must reuse returned ones. A freed slot that it sees implies the
/// block that was returned before, or it would exceed the bound.
#[test]
fn blocks_return_before_the_bound_is_passed() {
    check(Some(3), || {
        let mut ports = mesh::<u8>(2, CAPACITY);
        let mut consumer = ports.pop().unwrap();
        let mut producer = ports.pop().unwrap();
        let consuming = thread::spawn(move || {
            let mut expected = 0;
            while expected < 5 {
                match consumer.pop(0, Lane::Data) {
                    Some(Item::Block(block)) => {
                        assert_eq!(&block[..], [expected]);
                        expected += 1;
                        consumer.give_back(0, Lane::Data, block);
                    }
                    Some(Item::Other(_)) => panic!("only blocks were pushed"),
                    None => thread::yield_now(),
                }
            }
        });
        for number in 0..5 {
            let mut block = producer.empty_block(1, Lane::Data);
            assert!(block.is_empty());
            block.as_mut().push(number);
            let mut item = Item::Block(block);
            while let Err(refused) = producer.push(1, Lane::Data, item) {
                item = refused;
                thread::yield_now();
            }
        }
        consuming.join().unwrap();
        assert!(producer.blocks_alive(1, Lane::Data) <= CAPACITY.data_items + 2);
    });
}
