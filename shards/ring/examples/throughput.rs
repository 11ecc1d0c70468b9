//! Measures the cost between two threads, in nanoseconds: of an item, of a message copied into a block, and of a wake-up check on
//! a shard that is awake. `cargo run --release -p mqtt-broker-ring --example throughput`
#![cfg_attr(
    not(loom),
    expect(
        clippy::print_stdout,
        clippy::disallowed_methods,
        reason = "a measurement reads the clock and prints"
    )
)]

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() {
    for round in 1..=3 {
        println!("round {round}");
        println!("  item             {:6.1} ns", item_ns(20_000_000));
        for message_bytes in [16, 64, 256, 1_024] {
            println!("  {message_bytes:5} B, in blocks {:6.1} ns", message_ns(10_000_000, message_bytes));
        }
        println!(
            "  wake_needed      {:6.1} ns, of a shard that is awake, with the push before it",
            wake_ns(5_000_000)
        );
    }
}

#[cfg(not(loom))]
use measure::{item_ns, message_ns, wake_ns};

#[cfg(not(loom))]
mod measure {
    use std::thread;
    use std::time::Instant;

    use ring::{Capacity, Item, Lane, Port, mesh};

    /// Sends single values, each in its own slot.
    pub(super) fn item_ns(count: u64) -> f64 {
        let produce = |port: &mut Port<u64>| {
            for number in 0..count {
                push(port, Item::Other(number));
            }
        };
        run_ns(count, produce, |port| {
            let mut next = 0;
            while next < count {
                match port.pop(0, Lane::Data) {
                    Some(Item::Other(number)) => {
                        assert_eq!(number, next);
                        next += 1;
                    }
                    Some(Item::Block(_)) => unreachable!("no block was pushed"),
                    None => thread::yield_now(),
                }
            }
        })
    }

    /// Sends messages of `message_bytes` packed into blocks; each is copied in by the producer and out by the consumer.
    pub(super) fn message_ns(count: u64, message_bytes: usize) -> f64 {
        let message = vec![0x5a; message_bytes];
        let produce = |port: &mut Port<u64>| {
            let mut left = count;
            while left > 0 {
                let mut block = port.empty_block(1, Lane::Data);
                while left > 0 && block.room() >= message_bytes {
                    block.as_mut().extend_from_slice(&message);
                    left -= 1;
                }
                push(port, Item::Block(block));
            }
        };
        run_ns(count, produce, |port| {
            let mut received = vec![0; message_bytes];
            let mut left = count;
            while left > 0 {
                match port.pop(0, Lane::Data) {
                    Some(Item::Block(block)) => {
                        for message in block.chunks(message_bytes) {
                            received.copy_from_slice(std::hint::black_box(message));
                            std::hint::black_box(&received);
                            left -= 1;
                        }
                        port.give_back(0, Lane::Data, block);
                    }
                    Some(Item::Other(_)) => unreachable!("only blocks were pushed"),
                    None => thread::yield_now(),
                }
            }
        })
    }

    /// A push and a `wake_needed` for each item: the cost of a turn of one item.
    pub(super) fn wake_ns(count: u64) -> f64 {
        let produce = |port: &mut Port<u64>| {
            for number in 0..count {
                push(port, Item::Other(number));
                assert!(!port.wake_needed(1), "the consumer never parks");
            }
        };
        run_ns(count, produce, |port| {
            let mut left = count;
            while left > 0 {
                match port.pop(0, Lane::Data) {
                    Some(_) => left -= 1,
                    None => thread::yield_now(),
                }
            }
        })
    }

    fn push(port: &mut Port<u64>, mut item: Item<u64>) {
        while let Err(refused) = port.push(1, Lane::Data, item) {
            item = refused;
            thread::yield_now();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
    fn run_ns(
        count: u64,
        produce: impl FnOnce(&mut Port<u64>) + Send,
        consume: impl FnOnce(&mut Port<u64>) + Send,
    ) -> f64 {
        let mut ports = mesh(2, Capacity::DEFAULT);
        let [first, second] = &mut ports[..] else { unreachable!("a mesh of two") };
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| produce(first));
            consume(second);
        });
        start.elapsed().as_nanos() as f64 / count as f64
    }
}
