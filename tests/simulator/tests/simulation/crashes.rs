//! The broker has logs and crashes: random runs, and moments made by hand. Everything that was acknowledged is there afterwards.

use simulator::{ConnectOptions, Crash, DiskSettings, Settings, World, run_with_crashes};
use wire::QoS;

use crate::stage::{client_on, finish, stranger_on, subscribe, subscribe_at, turns, world_of};

/// Seeds of every test run, from 0, on one shard.
const SEEDS: u64 = 5;
/// The same on two shards.
const SEEDS_OF_TWO: u64 = 4;

/// Turns after which a crash is tried.
const TURNS: usize = 20;

#[test]
fn no_seed_breaks_a_promise_when_the_broker_crashes() {
    let mut total = [0; 5];
    let seeds = (0..SEEDS).map(|seed| (seed, 1)).chain((0..SEEDS_OF_TWO).map(|seed| (seed, 2)));
    for (seed, shards) in seeds.chain(REGRESSIONS.map(|(seed, shards, _)| (seed, shards))) {
        let report = run_with_crashes(seed, shards).unwrap_or_else(|failure| panic!("{failure}"));
        total[0] += report.message_count;
        total[1] += report.crash_count;
        total[2] += report.checkpoint_count;
        total[3] += report.poison_count;
        total[4] += report.record_count;
    }
    let [messages, crashes, checkpoints, poisoned, records] = total;
    // The runs must contain the hard cases, or they would prove little.
    assert!(messages > 2_000 && crashes > 40 && checkpoints > 30, "{total:?}");
    assert!(poisoned > 0 && records > 3_000, "{total:?}");
}

#[test]
fn the_same_seed_repeats_a_run_with_crashes() {
    assert_eq!(run_with_crashes(5, 1), run_with_crashes(5, 1));
}

/// Seeds that found a fault, each with its number of shards and its story.
const REGRESSIONS: [(u64, u16, &str); 13] = [
    (
        0x11,
        1,
        "a checkpoint had the session that a client had and the one that it began meanwhile: the start was refused",
    ),
    (
        0xd1a,
        1,
        "a checkpoint forgot that a filter was subscribed to again while its retained messages were looked up: they never came",
    ),
    (
        0x1a,
        1,
        "a session had more in flight than its client takes: each step tried to send it again and had no work left to read the acknowledgements",
    ),
    (
        0x37,
        3,
        "a retained message was sent again to one shard and its home had it already: look-ups waited for ever until the home had it in this start",
    ),
    (
        0x133,
        2,
        "a message of a group came back after a crash before the members of other shards were announced: it counted as one without a member",
    ),
    (
        0x92,
        2,
        "all members of a group were lasting and of QoS 0: a message of QoS 1 from another shard reached none of them",
    ),
    (
        0xe6,
        3,
        "a checkpoint named the targets of a retained transfer without its home, which had it: look-ups waited for the home as above",
    ),
    (0x1a5, 3, "a client began another session, whose messages overtook a transfer of the one before"),
    (
        0xf5,
        4,
        "a transfer that came to QoS 0 alone left nothing in the log of its target: it came once more after a crash",
    ),
    (
        0x93,
        2,
        "a member that does not last had a message of QoS 1 for a group with one that lasts: a crash lost it",
    ),
    (
        0x25f,
        2,
        "a crash cut the fan-out of a transfer: QoS 1 that its first part had was delivered, and once more as the transfer came again",
    ),
    (0x2a4, 1, "a disk was judged while a checkpoint had a few of its slices"),
    (
        0x3d9,
        1,
        "a segment that a crash had left behind the end of the log kept those before it and itself after a checkpoint",
    ),
];

fn logged() -> World {
    world_of(Settings::by_hand(1).logged())
}

/// A lasting session whose subscription is of QoS 0 is owed nothing after a crash, and is sent all that is published meanwhile, also what
/// a shard without lasting interest sends, and also beside a lasting subscription that matches something else.
#[test]
fn a_lasting_session_with_a_subscription_of_qos_0_receives_from_other_shards() {
    let mut world = world_of(Settings::by_hand(2).logged());
    let (subscriber, publisher) = (client_on(&mut world, 1, 1_000), client_on(&mut world, 0, 1_000));
    subscribe_at(&mut world, subscriber, "w/+/live", QoS::AtMostOnce);
    world.settle();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        world.publish(publisher, "w/a/live", qos, false, 10);
        world.settle();
    }
    assert_eq!(world.delivered(subscriber).len(), 3);
    world.crash(Crash::Power, 10, 0);
    world.settle();
    world.publish(publisher, "w/a/live", QoS::ExactlyOnce, false, 10);
    world.settle();
    assert_eq!(world.delivered(subscriber).len(), 4);
    finish(world);
}

/// Everybody keeps a will that reaches everybody: the start publishes them all, and each session was there before the first.
#[test]
fn wills_that_a_crash_makes_due_reach_all_sessions() {
    for crash in [Crash::Process, Crash::Power] {
        let mut world = logged();
        let clients = [0; 3].map(|shard| stranger_on(&mut world, shard, 1_000));
        for client in clients {
            let will = Some((QoS::AtLeastOnce, false, 0));
            world.connect(client, 0, ConnectOptions { clean_start: true, will });
            world.settle();
            subscribe(&mut world, client, "w/+/will");
            world.settle();
        }
        world.crash(crash, 10, 0);
        world.settle();
        for client in clients {
            assert_eq!(world.delivered(client).len(), clients.len());
        }
        finish(world);
    }
}

/// A publish is fanned out in many steps while a new subscriber is sent retained messages, and the process ends after any turn.
#[test]
fn a_crash_in_a_long_fan_out_beside_a_look_up_leaves_a_log_that_can_be_read() {
    for turn_count in 0..TURNS {
        let mut settings = Settings::by_hand(1).logged();
        settings.limits.step_work_max = 1;
        let mut world = world_of(settings);
        let clients = [0; 6].map(|shard| client_on(&mut world, shard, 1_000));
        for client in &clients[1..] {
            subscribe(&mut world, *client, "w/#");
        }
        for topic in ["w/a", "w/b", "w/c"] {
            world.publish(clients[0], topic, QoS::AtLeastOnce, true, 10);
        }
        world.settle();
        subscribe(&mut world, clients[0], "w/#");
        world.publish(clients[1], "w/d", QoS::AtLeastOnce, true, 10);
        for _ in 0..turn_count {
            world.advance(1);
            world.turn(0);
        }
        world.crash(Crash::Process, 10, 0);
        world.settle();
        finish(world);
    }
}

/// A disk fails: nothing more is acknowledged that has to survive, and all the rest is served. The next start has what was acknowledged.
#[test]
fn a_log_that_failed_acknowledges_nothing_more_and_the_rest_is_served() {
    let mut world = logged();
    let (lasting, volatile) = (client_on(&mut world, 0, 1_000), client_on(&mut world, 0, 0));
    let publisher = client_on(&mut world, 0, 1_000);
    subscribe(&mut world, lasting, "w/kept");
    subscribe(&mut world, volatile, "w/live");
    world.publish(publisher, "w/kept", QoS::AtLeastOnce, false, 10);
    world.settle();
    assert!(world.is_answered(publisher));
    world.set_disks(DiskSettings { fail_permille: 1_000, ..DiskSettings::default() });
    world.publish(publisher, "w/kept", QoS::AtLeastOnce, false, 10);
    for _ in 0..20 {
        world.advance(1);
        turns(&mut world, &[0], publisher);
    }
    assert!(world.is_poisoned(0) && !world.is_answered(publisher));
    world.ping(volatile);
    world.publish(volatile, "w/live", QoS::AtMostOnce, false, 10);
    turns(&mut world, &[0], volatile);
    assert!(world.is_answered(volatile) && world.delivered(volatile).len() == 1);
    world.set_disks(DiskSettings::default());
    world.crash(Crash::Power, 10, 0);
    world.settle();
    assert!(world.is_answered(publisher) && world.delivered(lasting).len() == 2);
    finish(world);
}
