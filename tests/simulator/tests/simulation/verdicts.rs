//! Each CONNECT waits for a verdict, which comes late, after stale ones, or for nobody any more; strangers name the identifiers of others.
//! Nothing of a session reaches a connection without a verdict, or another user.

use engine::{ListenerLimits, SessionOwner};
use simulator::{Settings, World, run_judged};
use wire::QoS;

use crate::stage::{client_on, finish, subscribe, world_of};

/// Seeds of every test run, from 0.
const SEEDS: u64 = 24;

#[test]
fn no_seed_breaks_a_guarantee_while_verdicts_are_late() {
    let mut total = [0; 3];
    for seed in 0..SEEDS {
        let report = run_judged(seed).unwrap_or_else(|failure| panic!("{failure}"));
        total[0] += report.message_count;
        total[1] += report.handed_over_count;
        total[2] += report.take_over_count;
    }
    // The runs must contain the hard cases, or they would prove little.
    assert!(total[0] > 3_000 && total[1] > 200 && total[2] > 20, "{total:?}");
}

/// Two shards, a client with a session on each, messages that wait, and strangers.
fn world_with_strangers(settings: Settings) -> World {
    let mut world = world_of(settings.judged());
    let clients = [0, 1].map(|shard| client_on(&mut world, shard, 1_000));
    for client in clients {
        subscribe(&mut world, client, "w/#");
    }
    world.settle();
    for round in 0..8 {
        for client in clients {
            world.publish(client, &format!("w/{client}/t"), QoS::AtLeastOnce, false, 10);
        }
        for shard in [0, 1] {
            world.send_stranger(shard);
        }
        if round % 2 == 0 {
            world.disconnect(clients[0], false);
        }
        world.settle();
    }
    world
}

#[test]
fn a_stranger_gets_nothing_of_a_session_and_ends_none() {
    finish(world_with_strangers(Settings::by_hand(2)));
}

/// The oracle sees the faults that it is for: MQTT's own rule lets any client take a session over that has its identifier.
#[test]
fn the_oracle_notices_a_session_that_reaches_another_user() {
    let mut settings = Settings::by_hand(2);
    settings.limits.session_owner = SessionOwner::ClientId;
    let world = world_with_strangers(settings);
    let failure = world.failure().expect("a stranger had a session").what;
    assert!(failure.contains("without a verdict for user-of-client"), "{failure}");
}

#[test]
fn the_oracle_notices_a_client_that_is_let_in_without_a_verdict() {
    let mut settings = Settings::by_hand(1).judged();
    settings.limits.listeners = vec![ListenerLimits::default()];
    let mut world = world_of(settings);
    client_on(&mut world, 0, 0);
    let failure = world.failure().expect("nobody was asked").what;
    assert!(failure.contains("without a verdict"), "{failure}");
}
