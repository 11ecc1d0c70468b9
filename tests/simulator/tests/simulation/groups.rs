//! Shared subscriptions whose members live on several shards.

use engine::{DropReason, LaneKind};
use simulator::Subscribing;
use wire::{QoS, RetainHandling};

use crate::stage::{client_in, client_on, finish, subscribe, turns, world};

const GROUP: &str = "$share/name/g/#";

#[test]
fn every_online_member_has_its_turn_on_every_shard() {
    let mut world = world(3);
    let members: Vec<usize> = [0, 1, 1, 2].map(|shard| client_in(&mut world, shard, 0, GROUP)).into();
    let publishers = [client_on(&mut world, 0, 0), client_on(&mut world, 2, 0)];
    for &member in &members {
        subscribe(&mut world, member, GROUP);
        world.settle();
    }
    for number in 0..40 {
        for publisher in publishers {
            world.publish(publisher, &format!("g/{publisher}/{number}"), QoS::AtLeastOnce, false, 10);
            world.settle();
        }
    }
    for &member in &members {
        assert_eq!(world.delivered(member).len(), 20);
    }
    finish(world);
}

#[test]
fn a_message_for_a_member_that_has_just_left_goes_to_another() {
    let mut world = world(3);
    let publisher = client_on(&mut world, 0, 0);
    let leaving = client_in(&mut world, 1, 0, GROUP);
    let staying = client_in(&mut world, 2, 0, GROUP);
    for member in [leaving, staying] {
        subscribe(&mut world, member, GROUP);
        world.settle();
    }
    // The publisher's shard learns of it last.
    world.hold(1, 0, LaneKind::Control);
    world.disconnect(leaving, false);
    turns(&mut world, &[1, 2, 0], leaving);
    let messages: Vec<u32> = (0..4)
        .map(|number| world.publish(publisher, &format!("g/x/{number}"), QoS::AtLeastOnce, false, 10))
        .collect();
    for _ in 0..4 {
        turns(&mut world, &[0, 1, 2], staying);
    }
    assert!(world.counters(0).messages_forwarded > 4, "some were returned and forwarded again");
    world.release();
    world.settle();
    let mut delivered: Vec<u32> = world.delivered(staying).iter().map(|(message, _)| *message).collect();
    delivered.sort_unstable();
    assert_eq!(delivered, messages);
    assert_eq!(world.dropped(DropReason::NoMember), 0);
    finish(world);
}

/// The publisher's shard chooses two shards without a member before it chooses the one that has one.
#[test]
fn a_message_is_offered_until_a_shard_has_a_member() {
    let mut world = world(4);
    let publisher = client_on(&mut world, 0, 0);
    let members = [1, 2, 3].map(|shard| client_in(&mut world, shard, 0, GROUP));
    for member in members {
        subscribe(&mut world, member, GROUP);
        world.settle();
    }
    world.hold(1, 0, LaneKind::Control);
    world.hold(2, 0, LaneKind::Control);
    world.disconnect(members[0], false);
    world.disconnect(members[1], false);
    turns(&mut world, &[1, 2], members[2]);
    for number in 0..6 {
        world.publish(publisher, &format!("g/x/{number}"), QoS::AtLeastOnce, false, 10);
    }
    for _ in 0..4 {
        turns(&mut world, &[0, 1, 2, 3], members[2]);
    }
    assert_eq!(world.delivered(members[2]).len(), 6);
    world.release();
    assert_eq!(world.dropped(DropReason::NoMember), 0);
    finish(world);
}

#[test]
fn a_member_that_comes_back_has_its_turns_again() {
    let mut world = world(3);
    let publisher = client_on(&mut world, 0, 0);
    let back = client_in(&mut world, 1, 1_000, GROUP);
    let other = client_in(&mut world, 2, 0, GROUP);
    for member in [back, other] {
        subscribe(&mut world, member, GROUP);
        world.settle();
    }
    world.disconnect(back, false);
    world.settle_without_clients_coming_back();
    world.connect(back, 1, simulator::ConnectOptions::default());
    world.settle();
    for number in 0..10 {
        world.publish(publisher, &format!("g/x/{number}"), QoS::AtLeastOnce, false, 10);
        world.settle();
    }
    assert_eq!([back, other].map(|member| world.delivered(member).len()), [5, 5]);
    finish(world);
}

/// The message is returned for the last time, and meanwhile the publisher's shard has a member itself.
#[test]
fn a_member_that_came_during_the_search_is_found_at_its_end() {
    let mut world = world(2);
    let publisher = client_on(&mut world, 0, 0);
    let gone = client_in(&mut world, 1, 1_000, GROUP);
    let new = client_in(&mut world, 0, 0, GROUP);
    subscribe(&mut world, gone, GROUP);
    world.settle();
    world.hold(1, 0, LaneKind::Control);
    world.disconnect(gone, true);
    turns(&mut world, &[1], gone);
    let message = world.publish(publisher, "g/x/y", QoS::AtLeastOnce, false, 10);
    // It is forwarded, returned, and forwarded once more.
    for shard in [0, 1, 0, 1] {
        world.turn(shard);
    }
    world.hold(1, 0, LaneKind::Data);
    subscribe(&mut world, new, GROUP);
    world.turn(0);
    world.release();
    turns(&mut world, &[0, 1], new);
    assert_eq!(world.delivered(new), [(message, false)]);
    assert_eq!(world.dropped(DropReason::NoMember), 0);
    finish(world);
}

/// The shard that is chosen first has a persistent offline member, and another one has an online member.
#[test]
fn a_message_prefers_an_online_member_of_another_shard_to_one_that_has_just_left() {
    let mut world = world(3);
    let publisher = client_on(&mut world, 0, 0);
    let away = client_in(&mut world, 1, 1_000, GROUP);
    let online = client_in(&mut world, 2, 0, GROUP);
    for member in [away, online] {
        subscribe(&mut world, member, GROUP);
        world.settle();
    }
    world.hold(1, 0, LaneKind::Control);
    world.disconnect(away, false);
    turns(&mut world, &[1], away);
    let messages: Vec<u32> = (0..4)
        .map(|number| world.publish(publisher, &format!("g/x/{number}"), QoS::AtLeastOnce, false, 10))
        .collect();
    for _ in 0..4 {
        turns(&mut world, &[0, 1, 2], online);
    }
    let mut delivered: Vec<u32> = world.delivered(online).iter().map(|(message, _)| *message).collect();
    delivered.sort_unstable();
    assert_eq!(delivered, messages);
    finish(world);
}

/// The publisher's shard does not learn that the members left. It offers the message to each shard once for an online member,
/// once more for a persistent offline member, and then drops it.
#[test]
fn a_shard_that_had_no_member_is_not_asked_again() {
    for shards in [2, 3, 4] {
        let mut world = world(shards);
        let publisher = client_on(&mut world, 0, 0);
        let others: Vec<usize> = (1..usize::from(shards)).collect();
        let members: Vec<usize> =
            others.iter().map(|&shard| client_in(&mut world, shard, 0, GROUP)).collect();
        for &member in &members {
            subscribe(&mut world, member, GROUP);
            world.settle();
        }
        for (&shard, &member) in others.iter().zip(&members) {
            world.hold(shard, 0, LaneKind::Control);
            world.disconnect(member, false);
            turns(&mut world, &[shard], member);
        }
        world.publish(publisher, "g/x/y", QoS::AtLeastOnce, false, 10);
        for _ in 0..8 {
            turns(&mut world, &[0, 1, 2, 3][..usize::from(shards)], publisher);
        }
        assert_eq!(world.counters(0).messages_forwarded, 2 * others.len() as u64);
        assert_eq!(world.dropped(DropReason::NoMember), 1);
        finish(world);
    }
}

#[test]
fn a_persistent_offline_member_keeps_the_message_while_nobody_is_online() {
    let mut world = world(3);
    let publisher = client_on(&mut world, 0, 0);
    let member = client_in(&mut world, 2, 1_000, GROUP);
    subscribe(&mut world, member, GROUP);
    world.settle();
    world.disconnect(member, false);
    world.settle_without_clients_coming_back();
    let message = world.publish(publisher, "g/x/y", QoS::ExactlyOnce, false, 10);
    world.settle_without_clients_coming_back();
    assert!(world.delivered(member).is_empty());
    world.settle();
    assert_eq!(world.delivered(member), [(message, false)]);
    finish(world);
}

#[test]
fn messages_of_an_ended_session_are_reassigned_to_another_shard() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = world(3);
        let publisher = client_on(&mut world, 0, 0);
        let leaving = client_in(&mut world, 1, 0, GROUP);
        let filter = [Subscribing { filter: GROUP, qos, retain_handling: RetainHandling::DoNotSend }];
        let staying = client_in(&mut world, 2, 0, GROUP);
        world.subscribe(leaving, &filter);
        world.settle();
        let messages: Vec<u32> = (0..150)
            .map(|number| {
                let message = world.publish(publisher, &format!("g/x/{number}"), qos, false, 3_000);
                // The member's shard sends, and the member reads nothing.
                for shard in [0, 1, 0] {
                    world.turn(shard);
                }
                world.read(publisher, usize::MAX);
                message
            })
            .collect();
        turns(&mut world, &[0, 1], publisher);
        assert!(world.is_answered(publisher), "all of them are acknowledged");
        world.subscribe(staying, &filter);
        turns(&mut world, &[2, 0, 1], staying);
        assert!(world.is_answered(staying));
        world.vanish(leaving, true);
        world.settle();
        let delivered: Vec<u32> = world.delivered(staying).iter().map(|(message, _)| *message).collect();
        // The Receive Maximum is 100: a hundred messages of QoS 2 were sent, and those are not reassigned [MQTT-4.8.2-5].
        let sent = if qos == QoS::ExactlyOnce { 100 } else { 0 };
        assert_eq!(delivered, messages[sent..], "in order");
        assert_eq!(world.dropped(DropReason::Reassigned), 150 - sent as u64);
        assert_eq!(world.dropped(DropReason::SessionEnded), sent as u64);
        finish(world);
    }
}

/// The publisher's shard takes two members for online that are not. The message goes round once more and stays with the
/// persistent offline member.
#[test]
fn a_message_without_an_online_member_is_offered_once_more_to_persistent_offline_members() {
    let mut world = world(4);
    let publisher = client_on(&mut world, 0, 0);
    let gone = client_in(&mut world, 1, 1_000, GROUP);
    let away = client_in(&mut world, 3, 1_000, GROUP);
    for member in [gone, away] {
        subscribe(&mut world, member, GROUP);
        world.settle();
    }
    // The publisher's shard does not learn that one session ended and that the other waits.
    world.hold(1, 0, LaneKind::Control);
    world.hold(3, 0, LaneKind::Control);
    world.disconnect(gone, true);
    world.disconnect(away, false);
    turns(&mut world, &[1, 3, 2], away);
    let messages: Vec<u32> = (0..4)
        .map(|number| world.publish(publisher, &format!("g/x/{number}"), QoS::AtLeastOnce, false, 10))
        .collect();
    for _ in 0..6 {
        turns(&mut world, &[0, 1, 2, 3], publisher);
    }
    assert_eq!(world.dropped(DropReason::NoMember), 0);
    world.release();
    world.settle();
    let mut delivered: Vec<u32> = world.delivered(away).iter().map(|(message, _)| *message).collect();
    delivered.sort_unstable();
    assert_eq!(delivered, messages);
    finish(world);
}
