//! Interest between shards: when a SUBACK may leave, and which messages are forwarded.

use engine::LaneKind;
use wire::QoS;

use crate::stage::{client_on, finish, subscribe, turns, world};

#[test]
fn a_suback_waits_until_every_shard_knows_and_then_nothing_is_missed() {
    for filter in ["w/a/b", "w/+/b", "w/#"] {
        let mut world = world(3);
        let subscriber = client_on(&mut world, 0, 0);
        let publisher = client_on(&mut world, 2, 0);
        world.hold(0, 2, LaneKind::Control);
        subscribe(&mut world, subscriber, filter);
        turns(&mut world, &[0, 1, 2], subscriber);
        assert!(!world.is_answered(subscriber), "shard 2 does not know {filter}");
        world.release();
        turns(&mut world, &[2, 0], subscriber);
        assert!(world.is_answered(subscriber));
        let message = world.publish(publisher, "w/a/b", QoS::AtLeastOnce, false, 10);
        world.settle();
        assert_eq!(world.delivered(subscriber), [(message, false)]);
        assert_eq!(world.counters(2).messages_forwarded, 1);
        finish(world);
    }
}

#[test]
fn a_publish_without_a_subscriber_elsewhere_is_not_forwarded() {
    let mut world = world(4);
    let publisher = client_on(&mut world, 1, 0);
    let neighbour = client_on(&mut world, 1, 0);
    let elsewhere = client_on(&mut world, 3, 0);
    subscribe(&mut world, neighbour, "w/a/#");
    subscribe(&mut world, elsewhere, "w/b/#");
    world.settle();
    for number in 0..20 {
        world.publish(publisher, &format!("w/a/{number}"), QoS::AtLeastOnce, false, 10);
        world.settle();
    }
    assert_eq!(world.delivered(neighbour).len(), 20);
    assert!((0..4).all(|shard| world.counters(shard).messages_forwarded == 0));
    world.publish(publisher, "w/b/0", QoS::AtLeastOnce, false, 10);
    world.settle();
    assert_eq!((world.delivered(elsewhere).len(), world.counters(1).messages_forwarded), (1, 1));
    finish(world);
}

#[test]
fn the_last_subscriber_that_leaves_withdraws_the_interest() {
    let mut world = world(2);
    let publisher = client_on(&mut world, 0, 0);
    let (first, second) = (client_on(&mut world, 1, 0), client_on(&mut world, 1, 0));
    for who in [first, second] {
        subscribe(&mut world, who, "w/+/x");
        world.settle();
    }
    let forwarded = |world: &mut simulator::World| {
        let before = world.counters(0).messages_forwarded;
        world.publish(publisher, "w/a/x", QoS::AtMostOnce, false, 10);
        world.settle();
        world.counters(0).messages_forwarded - before
    };
    assert_eq!(forwarded(&mut world), 1);
    world.unsubscribe(first, "w/+/x");
    world.settle();
    assert_eq!(forwarded(&mut world), 1);
    world.disconnect(second, false);
    world.settle();
    assert_eq!(forwarded(&mut world), 0);
    finish(world);
}
