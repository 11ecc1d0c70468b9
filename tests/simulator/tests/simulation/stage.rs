//! The common parts of the tests with a schedule made by hand: clients and topics at home on a chosen shard.

use simulator::{ConnectOptions, Identity, Settings, Subscribing, World};
use wire::{ProtocolVersion, QoS, RetainHandling};

pub(crate) const CLEAN: ConnectOptions = ConnectOptions { clean_start: true, will: None };
const SEED: u64 = 0x5eed;

pub(crate) fn world(shard_count: u16) -> World {
    world_of(Settings::by_hand(shard_count))
}

pub(crate) fn world_of(settings: Settings) -> World {
    World::new(SEED, settings)
}

/// A client whose session lives on `shard`. It is connected, and the world has settled.
pub(crate) fn client_on(world: &mut World, shard: usize, expiry_s: u32) -> usize {
    client_in(world, shard, expiry_s, "")
}

/// [`client_on`] for a member of a group.
pub(crate) fn client_in(world: &mut World, shard: usize, expiry_s: u32, group: &str) -> usize {
    let who = stranger_in(world, shard, expiry_s, group);
    world.connect(who, shard, CLEAN);
    world.settle();
    who
}

/// [`client_on`] that is not connected yet.
pub(crate) fn stranger_on(world: &mut World, shard: usize, expiry_s: u32) -> usize {
    stranger_in(world, shard, expiry_s, "")
}

fn stranger_in(world: &mut World, shard: usize, expiry_s: u32, group: &str) -> usize {
    let count = world.client_count();
    let mut names = (0..1_000).map(|number| format!("client-{count}-{number}"));
    let name = names.find(|name| world.home_of_client(name) == shard).expect("names are dealt evenly");
    world.add(Identity::new(&name, ProtocolVersion::V5, expiry_s).in_group(group))
}

/// A topic that is at home on `shard`, found by retaining messages.
pub(crate) fn topic_on(shard_count: u16, shard: usize) -> String {
    let mut world = world(shard_count);
    let who = client_on(&mut world, 0, 0);
    (0..1_000)
        .map(|number| format!("w/home/{number}"))
        .find(|topic| {
            let before = world.retained_count(shard);
            world.publish(who, topic, QoS::AtLeastOnce, true, 10);
            world.settle();
            world.retained_count(shard) > before
        })
        .expect("topics are dealt evenly")
}

pub(crate) fn subscribe(world: &mut World, who: usize, filter: &str) {
    subscribe_at(world, who, filter, QoS::AtLeastOnce);
}

pub(crate) fn subscribe_at(world: &mut World, who: usize, filter: &str, qos: QoS) {
    let retain_handling = RetainHandling::SendAtSubscribe;
    world.subscribe(who, &[Subscribing { filter, qos, retain_handling }]);
}

/// Gives each shard some turns and lets `who` read, while lanes may be held.
pub(crate) fn turns(world: &mut World, shards: &[usize], who: usize) {
    for _ in 0..4 {
        for &shard in shards {
            world.turn(shard);
        }
        world.read(who, usize::MAX);
    }
}

/// Delivers everything that is required, lets every client leave, and asserts that nothing is left and no guarantee was broken.
pub(crate) fn finish(mut world: World) {
    world.finish();
    if let Some(failure) = world.failure() {
        panic!("{failure}");
    }
}
