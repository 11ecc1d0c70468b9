//! Back-pressure between shards: full lanes delay messages and lose none.

use engine::LaneKind;
use simulator::{Settings, World};
use wire::QoS;

use crate::stage::{client_in, client_on, finish, subscribe, turns};

/// Items that wait for a lane until no more packets of clients are taken.
const ITEMS_MAX: usize = 64;

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
    let (count, mut sent, mut full_both_ways, mut waiting_max) = (600, 0, 0, 0);
    for round in 0..10_000 {
        if sent < count {
            for (number, pair) in publishers.iter().enumerate() {
                for shard in [0, 1] {
                    // Every tenth message is too large for a block.
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
        let is_full = |source: usize| world.lane_len(source, 1 - source, LaneKind::Data) == 1;
        let waits = |shard: usize| world.audit(shard).waiting_outbound > 1;
        waiting_max =
            [0, 1].map(|shard| world.audit(shard).waiting_outbound).into_iter().fold(waiting_max, usize::max);
        full_both_ways += u32::from((is_full(0) || is_full(1)) && waits(0) && waits(1));
        for who in publishers.iter().flatten().chain(&subscribers) {
            world.read(*who, usize::MAX);
        }
        if [0, 1].map(|shard| world.delivered(subscribers[shard]).len()) == [count; 2] {
            break;
        }
    }
    let delivered = [0, 1].map(|shard| world.delivered(subscribers[shard]).len());
    assert_eq!(delivered, [count; 2], "no progress");
    assert!(full_both_ways > 100, "both had to wait {full_both_ways} times");
    // The bound, the items that one packet adds, and a block that is not full.
    assert!((ITEMS_MAX..=ITEMS_MAX + 3).contains(&waiting_max), "{waiting_max} items waited");
    finish(world);
}

/// Publishes, page requests and pages, and returned messages of a group without a member, all at once in both directions.
#[test]
fn items_that_wait_for_full_lanes_are_bounded_and_all_arrive() {
    const RETAINED: usize = 30;
    const ASKING: usize = 12;
    let settings = Settings { data_capacity: 1, control_capacity: 1, ..Settings::by_hand(2) };
    let mut world = World::new(0xf100d, settings);
    let publishers = [client_on(&mut world, 0, 0), client_on(&mut world, 1, 0)];
    let subscribers = [client_on(&mut world, 0, 0), client_on(&mut world, 1, 0)];
    let members =
        [client_in(&mut world, 0, 1_000, "$share/a/g/#"), client_in(&mut world, 1, 1_000, "$share/a/g/#")];
    let asking: Vec<usize> = (0..2 * ASKING).map(|number| client_on(&mut world, number % 2, 0)).collect();
    for number in 0..RETAINED {
        world.publish(publishers[number % 2], &format!("w/r/{number}"), QoS::AtLeastOnce, true, 3_000);
    }
    for shard in [0, 1] {
        subscribe(&mut world, subscribers[shard], &format!("w/{}/#", 1 - shard));
        subscribe(&mut world, members[shard], "$share/a/g/#");
    }
    for &who in &asking {
        subscribe(&mut world, who, "w/r/#");
    }
    world.settle();
    let mut waiting_max = 0;
    for round in 0..200 {
        // Every receiver is held for a while, then takes what its lanes have, which is one item each, and is held again.
        world.release();
        for (shard, other) in [(0, 1), (1, 0)] {
            world.turn(shard);
            for lane in [LaneKind::Data, LaneKind::Control] {
                world.hold(other, shard, lane);
            }
        }
        for shard in [0, 1] {
            for number in 0..10 {
                if world.has_quota(publishers[shard]) {
                    let name = ["w", "g"][number % 2];
                    let topic = format!("{name}/{shard}/{round}");
                    world.publish(publishers[shard], &topic, QoS::AtLeastOnce, false, 3_000);
                }
            }
        }
        for &who in &asking {
            if world.is_answered(who) {
                subscribe(&mut world, who, "w/r/#");
            }
        }
        // The other shard is wrong about the group half of the time.
        let member = members[round % 2];
        if world.is_online(member) {
            world.disconnect(member, false);
        } else if world.is_offline(member) {
            world.connect(member, round % 2, simulator::ConnectOptions::default());
        }
        for shard in [0, 1] {
            turns(&mut world, &[shard], publishers[shard]);
            waiting_max = world.audit(shard).waiting_outbound.max(waiting_max);
        }
        for &who in subscribers.iter().chain(&members).chain(&asking) {
            world.read(who, usize::MAX);
        }
    }
    // Eight requests are open at once. Each is answered by the retained messages, of which two fill a block.
    let answers_max = 8 * (RETAINED / 2 + 1);
    let bound = 2 * (ITEMS_MAX + 3) + answers_max;
    assert!(waiting_max <= bound, "{waiting_max} items waited, of {bound}");
    assert!(waiting_max > ITEMS_MAX, "the lanes were never full");
    finish(world);
}
