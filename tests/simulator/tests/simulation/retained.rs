//! Races between live messages and replays from the retained stores of other shards.
//!
//! The publisher is on shard 0, the subscriber on shard 1, and the topic is at home on shard 2.

use engine::LaneKind;
use simulator::{Settings, World};
use wire::QoS;

use crate::stage::{client_in, client_on, finish, subscribe, topic_on, turns, world, world_of};

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
const HOME: usize = 2;

/// A retained message of `topic` is on its way to a subscriber of `filter`. Returns the world, the subscriber and the message.
fn page_under_way(topic: &str, filter: &str) -> (World, usize, u32) {
    let mut world = world(3);
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let subscriber = client_on(&mut world, SUBSCRIBER, 0);
    let kept = world.publish(publisher, topic, QoS::AtLeastOnce, true, 10);
    world.settle();

    world.hold(HOME, SUBSCRIBER, LaneKind::Data);
    subscribe(&mut world, subscriber, filter);
    turns(&mut world, &[SUBSCRIBER, PUBLISHER, HOME], subscriber);
    assert!(world.lane_len(HOME, SUBSCRIBER, LaneKind::Data) > 0, "the page is under way");
    (world, subscriber, kept)
}

#[test]
fn an_older_retained_message_does_not_follow_a_newer_live_one() {
    let topic = topic_on(3, HOME);
    let mut world = world(3);
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let subscriber = client_on(&mut world, SUBSCRIBER, 0);
    world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    world.settle();

    // The request is answered with the old message, and the page is slow.
    world.hold(HOME, SUBSCRIBER, LaneKind::Data);
    subscribe(&mut world, subscriber, &topic);
    turns(&mut world, &[SUBSCRIBER, PUBLISHER, HOME], subscriber);
    assert!(world.is_answered(subscriber) && world.delivered(subscriber).is_empty());
    assert!(world.lane_len(HOME, SUBSCRIBER, LaneKind::Data) > 0, "the page is under way");
    let newer = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    turns(&mut world, &[PUBLISHER, SUBSCRIBER, HOME], subscriber);
    assert_eq!(world.delivered(subscriber), [(newer, false)]);

    world.release();
    world.settle();
    assert_eq!(world.delivered(subscriber), [(newer, false)]);
    finish(world);
}

/// The second SUBSCRIBE comes while the first one's request is under way, and the third after it. Each is sent the retained message.
#[test]
fn subscribing_again_before_the_page_arrives_is_answered_once_more() {
    let topic = topic_on(3, HOME);
    for filter in [topic.clone(), format!("{topic}/#")] {
        let (mut world, subscriber, kept) = page_under_way(&topic, &filter);
        subscribe(&mut world, subscriber, &filter);
        subscribe(&mut world, subscriber, &filter);
        turns(&mut world, &[SUBSCRIBER, PUBLISHER, HOME], subscriber);
        assert!(world.delivered(subscriber).is_empty());

        world.release();
        world.settle();
        assert_eq!(world.delivered(subscriber), [(kept, true); 3], "{filter}");
        finish(world);
    }
}

/// The page arrives when its subscription has ended and the same filter is subscribed to again, which requests its own page.
#[test]
fn a_page_for_a_subscription_that_ended_is_not_sent_for_the_next_one() {
    let topic = topic_on(3, HOME);
    for filter in [topic.clone(), format!("{topic}/#")] {
        let (mut world, subscriber, kept) = page_under_way(&topic, &filter);
        world.unsubscribe(subscriber, &filter);
        turns(&mut world, &[SUBSCRIBER, PUBLISHER, HOME], subscriber);
        subscribe(&mut world, subscriber, &filter);
        turns(&mut world, &[SUBSCRIBER, PUBLISHER, HOME], subscriber);
        assert!(world.delivered(subscriber).is_empty());

        world.release();
        world.settle();
        assert_eq!(world.delivered(subscriber), [(kept, true)], "{filter}");
        finish(world);
    }
}

/// One topic is remembered, and two are sent live while the page is under way. So the page is discarded and requested again.
#[test]
fn a_page_is_requested_again_if_too_many_live_topics_came_meanwhile() {
    let topic = topic_on(3, HOME);
    let by_hand = Settings::by_hand(3);
    let limits = engine::Limits { replay_topics_max: 1, ..by_hand.limits.clone() };
    let mut world = world_of(Settings { limits, ..by_hand });
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let subscriber = client_on(&mut world, SUBSCRIBER, 0);
    world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    world.settle();

    world.hold(HOME, SUBSCRIBER, LaneKind::Data);
    subscribe(&mut world, subscriber, &format!("{topic}/#"));
    turns(&mut world, &[SUBSCRIBER, PUBLISHER, HOME], subscriber);
    assert!(world.lane_len(HOME, SUBSCRIBER, LaneKind::Data) > 0, "the page is under way");
    let newer = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    let other = world.publish(publisher, &format!("{topic}/x"), QoS::AtLeastOnce, false, 10);
    turns(&mut world, &[PUBLISHER, SUBSCRIBER, HOME], subscriber);
    let live = [(newer, false), (other, false)];
    assert_eq!(world.delivered(subscriber), live);

    world.release();
    world.settle();
    // The newer message may come again as retained; the one that it replaced may not.
    assert_eq!(world.delivered(subscriber), [live[0], live[1], (newer, true)]);
    finish(world);
}

/// The subscriber's shard had delivered the update to another client before, so the publisher's shard had no reason to send it
/// again.
#[test]
fn an_update_that_passed_before_the_subscription_is_in_the_page_of_a_slow_home() {
    let topic = topic_on(3, HOME);
    let mut world = world(3);
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let earlier = client_on(&mut world, SUBSCRIBER, 0);
    let later = client_on(&mut world, SUBSCRIBER, 0);
    let old = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    world.settle();
    subscribe(&mut world, earlier, &topic);
    world.settle();
    assert_eq!(world.delivered(earlier), [(old, true)]);

    world.hold(PUBLISHER, HOME, LaneKind::Data);
    let update = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    turns(&mut world, &[PUBLISHER, SUBSCRIBER], earlier);
    assert_eq!(world.delivered(earlier), [(old, true), (update, false)]);
    subscribe(&mut world, later, &topic);
    turns(&mut world, &[SUBSCRIBER, HOME, PUBLISHER], later);
    assert!(world.is_answered(later) && world.delivered(later).is_empty());

    world.release();
    world.settle();
    assert_eq!(world.delivered(later), [(update, true)]);
    finish(world);
}

/// The publisher's shard did not know of the subscription yet, so the update went only to the home of its topic.
#[test]
fn an_update_of_a_shard_that_does_not_know_of_the_subscription_is_in_the_page() {
    let topic = topic_on(3, HOME);
    let mut world = world(3);
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let subscriber = client_on(&mut world, SUBSCRIBER, 0);

    world.hold(SUBSCRIBER, PUBLISHER, LaneKind::Control);
    world.hold(PUBLISHER, HOME, LaneKind::Data);
    subscribe(&mut world, subscriber, &topic);
    turns(&mut world, &[SUBSCRIBER, HOME], subscriber);
    let update = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    turns(&mut world, &[PUBLISHER, SUBSCRIBER, HOME], subscriber);
    assert!(!world.is_answered(subscriber), "a shard does not know of it");
    assert_eq!(world.lane_len(PUBLISHER, SUBSCRIBER, LaneKind::Data), 0);

    world.release();
    world.settle();
    assert_eq!(world.delivered(subscriber), [(update, true)]);
    finish(world);
}

/// Every shard knows of the subscription, so its SUBACK leaves, but one of them has not reported its earlier updates yet.
#[test]
fn a_page_is_not_requested_before_every_shard_has_reported_its_updates() {
    let topic = topic_on(3, HOME);
    for filter in [topic.clone(), format!("{topic}/#")] {
        let mut world = world(3);
        let publisher = client_on(&mut world, PUBLISHER, 0);
        let subscriber = client_on(&mut world, SUBSCRIBER, 0);
        world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
        world.settle();

        world.hold(PUBLISHER, HOME, LaneKind::Data);
        world.hold(PUBLISHER, SUBSCRIBER, LaneKind::Control);
        let update = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
        world.turn(PUBLISHER);
        subscribe(&mut world, subscriber, &filter);
        turns(&mut world, &[SUBSCRIBER, PUBLISHER, HOME], subscriber);
        assert!(world.is_answered(subscriber) && world.delivered(subscriber).is_empty());

        world.release();
        world.settle();
        assert_eq!(world.delivered(subscriber), [(update, true)], "{filter}");
        finish(world);
    }
}

/// The report names an update that is still on its way to the home. The home waits for it.
#[test]
fn a_home_answers_only_after_it_has_applied_the_reported_updates() {
    let topic = topic_on(3, HOME);
    let mut world = world(3);
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let subscriber = client_on(&mut world, SUBSCRIBER, 0);
    world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    world.settle();

    world.hold(PUBLISHER, HOME, LaneKind::Data);
    let update = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    world.turn(PUBLISHER);
    subscribe(&mut world, subscriber, &topic);
    turns(&mut world, &[SUBSCRIBER, PUBLISHER, HOME], subscriber);
    assert!(world.is_answered(subscriber) && world.delivered(subscriber).is_empty());
    assert_eq!(world.audit(HOME).page_requests, (0, 1), "it has the request and waits");

    world.release();
    world.settle();
    assert_eq!(world.delivered(subscriber), [(update, true)]);
    finish(world);
}

/// Of two updates of one publisher, the first reaches the subscriber only through its home, the second one live.
#[test]
fn an_update_that_went_home_alone_does_not_follow_the_next_one() {
    let topic = topic_on(3, HOME);
    let mut world = world(3);
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let subscriber = client_on(&mut world, SUBSCRIBER, 0);

    world.hold(SUBSCRIBER, PUBLISHER, LaneKind::Control);
    world.hold(PUBLISHER, HOME, LaneKind::Data);
    subscribe(&mut world, subscriber, &topic);
    turns(&mut world, &[SUBSCRIBER, HOME], subscriber);
    world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    world.turn(PUBLISHER);
    world.release();
    world.hold(PUBLISHER, HOME, LaneKind::Data);
    world.turn(PUBLISHER);
    let second = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    turns(&mut world, &[PUBLISHER, SUBSCRIBER, HOME], subscriber);
    assert_eq!(world.delivered(subscriber), [(second, false)]);

    world.release();
    world.settle();
    assert_eq!(world.delivered(subscriber), [(second, false)]);
    finish(world);
}

/// The interest of an earlier subscriber may still be known when a new one subscribes, and be withdrawn before the new interest
/// arrives. Then the first update comes live and the second does not.
#[test]
fn an_update_that_came_live_does_not_hide_a_later_one_that_did_not() {
    let topic = topic_on(3, HOME);
    let mut world = world_of(Settings { control_capacity: 1, ..Settings::by_hand(3) });
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let earlier = client_on(&mut world, SUBSCRIBER, 0);
    let later = client_on(&mut world, SUBSCRIBER, 0);
    subscribe(&mut world, earlier, &topic);
    world.settle();

    world.hold(SUBSCRIBER, PUBLISHER, LaneKind::Control);
    world.unsubscribe(earlier, &topic);
    world.turn(SUBSCRIBER);
    subscribe(&mut world, later, &topic);
    world.turn(SUBSCRIBER);
    let first = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    world.turn(PUBLISHER);
    world.release();
    let second = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    world.turn(PUBLISHER);
    turns(&mut world, &[SUBSCRIBER], later);
    assert_eq!(world.delivered(later), [(first, false)]);

    world.settle();
    assert_eq!(world.delivered(later), [(first, false), (second, true)]);
    finish(world);
}

/// The first update goes to a shard that has no member any more, so it reaches the subscriber after the second one.
#[test]
fn a_late_message_of_a_group_does_not_replace_the_newer_one_that_came_before_it() {
    const LEFT: usize = 3;
    const GROUP: &str = "$share/name/w/#";
    let topic = topic_on(4, HOME);
    let mut world = world(4);
    let publisher = client_on(&mut world, PUBLISHER, 0);
    let subscriber = client_in(&mut world, SUBSCRIBER, 0, GROUP);
    let leaving = client_in(&mut world, LEFT, 0, GROUP);
    for member in [subscriber, leaving] {
        subscribe(&mut world, member, GROUP);
        world.settle();
    }
    // The members take turns.
    world.publish(publisher, "w/other", QoS::AtLeastOnce, false, 10);
    world.settle();
    world.hold(LEFT, PUBLISHER, LaneKind::Control);
    world.disconnect(leaving, false);
    turns(&mut world, &[LEFT], leaving);

    world.hold(SUBSCRIBER, HOME, LaneKind::Control);
    subscribe(&mut world, subscriber, &topic);
    turns(&mut world, &[SUBSCRIBER, PUBLISHER, LEFT], subscriber);
    world.hold(PUBLISHER, LEFT, LaneKind::Data);
    let first = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    let second = world.publish(publisher, &topic, QoS::AtLeastOnce, true, 10);
    turns(&mut world, &[PUBLISHER, SUBSCRIBER], subscriber);
    world.release();
    world.hold(SUBSCRIBER, HOME, LaneKind::Control);
    world.hold(LEFT, PUBLISHER, LaneKind::Control);
    turns(&mut world, &[LEFT, PUBLISHER, SUBSCRIBER], subscriber);
    // Each comes by its own subscription and by that of the group. The oracle does not judge a client with both.
    let live = [(first, false), (second, false), (second, false), (first, false)];
    assert_eq!(world.delivered(subscriber)[1..], live);

    world.release();
    turns(&mut world, &[SUBSCRIBER, HOME, PUBLISHER, LEFT], subscriber);
    assert!(world.is_answered(subscriber) && world.audit(SUBSCRIBER).page_requests == (0, 0));
    assert_eq!(world.delivered(subscriber)[1..], live, "the second is not sent again");
}

/// A request travels on another lane than the update before it.
#[test]
fn a_client_is_sent_its_own_retained_message_by_a_slow_home() {
    let topic = topic_on(3, HOME);
    let mut world = world(3);
    let client = client_on(&mut world, SUBSCRIBER, 0);
    world.hold(SUBSCRIBER, HOME, LaneKind::Data);
    let update = world.publish(client, &topic, QoS::AtLeastOnce, true, 10);
    turns(&mut world, &[SUBSCRIBER], client);
    assert!(world.is_answered(client), "PUBACK waits for no other shard");
    subscribe(&mut world, client, &topic);
    turns(&mut world, &[SUBSCRIBER, HOME, PUBLISHER], client);
    assert!(world.delivered(client).is_empty());

    world.release();
    world.settle();
    assert_eq!(world.delivered(client), [(update, true)]);
    finish(world);
}
