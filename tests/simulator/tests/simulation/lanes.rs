//! Back-pressure between shards: full lanes delay and lose nothing.
//! Knows no engine.

use engine::Lane;
use simulator::{Settings, World};
use wire::QoS;

use crate::stage::{client_on, finish, subscribe};

#[test]
fn two_shards_that_flood_each_other_over_full_lanes_make_progress() {
    let settings = Settings { data_capacity: 1, control_capacity: 1, ..Settings::by_hand(2) };
    let mut world = World::new(0xf100d, settings);
    let publishers: Vec<[usize; 2]> =
        (0..4).map(|_| [client_on(&mut world, 0, 0), client_on(&mut world, 1, 0)]).collect();
    let subscribers = [client_on(&mut world, 0, 0), client_on(&mut world, 1, 0)];
    for shard in [0, 1] {
        subscribe(&mut world, subscribers[shard], &format!("w/{}/#", 1 - shard));
    }
    world.settle();
    let (count, mut sent, mut full_both_ways) = (600, 0, 0);
    for round in 0..10_000 {
        if sent < count {
            for (number, pair) in publishers.iter().enumerate() {
                for shard in [0, 1] {
                    // Every tenth is too large for a block.
                    let bytes = if (sent + number) % 10 == 0 { 9_000 } else { 3_000 };
                    let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][sent % 2];
                    world.publish(pair[shard], &format!("w/{shard}/{number}"), qos, false, bytes);
                }
            }
            sent += publishers.len();
        }
        world.advance(1);
        for shard in [round % 2, 1 - round % 2] {
            world.turn(shard);
        }
        let is_full = |source: usize| world.lane_len(source, 1 - source, Lane::Data) == 1;
        let waits = |shard: usize| world.audit(shard).waiting_parcels > 1;
        full_both_ways += u32::from((is_full(0) || is_full(1)) && waits(0) && waits(1));
        for who in publishers.iter().flatten().chain(&subscribers) {
            world.read(*who, usize::MAX);
        }
        if [0, 1].map(|shard| world.heard(subscribers[shard]).len()) == [count; 2] {
            break;
        }
    }
    let heard = [0, 1].map(|shard| world.heard(subscribers[shard]).len());
    assert_eq!(heard, [count; 2], "no progress");
    assert!(full_both_ways > 100, "both had to wait {full_both_ways} times");
    finish(world);
}
