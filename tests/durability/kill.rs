//! The broker is killed again and again amid traffic of QoS 1 and 2, and started with its data. `KILLS` sets the number of rounds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::checkpoints::State;
use crate::clients::{Numbered, Publisher, Subscriber};
use crate::harness::broker::{Broker, Directory, Io};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};
use crate::setup;

/// Rounds, if `KILLS` does not say another number.
const KILLS: u32 = 50;

/// Acknowledgements that most rounds wait for.
const ACKNOWLEDGEMENTS: usize = 8;

/// Queues that hold whatever comes while their subscriber is away.
pub(crate) const QUEUES: [&str; 4] = ["--queue-messages-max", "1000000", "--queue-bytes-max", "1000000000"];

#[test]
fn no_kill_loses_what_was_acknowledged_on_io_uring() {
    println!("{}", check_shards(Io::Uring, [1, 4]));
}

#[test]
fn no_kill_loses_what_was_acknowledged_on_epoll() {
    println!("{}", check_shards(Io::Epoll, [2, 3]));
}

/// Each number of shards has its share of the kills. Returns the counts.
fn check_shards(io: Io, shard_counts: [u32; 2]) -> String {
    let lines = shard_counts.map(|shards| {
        let flags = ["--shards", &shards.to_string()];
        let (_, counts) = check(io, (kills() / 2, shards.into()), &flags, &mut |_| {});
        format!("{shards} shards, {counts}")
    });
    lines.join("\n")
}

pub(crate) fn kills() -> u32 {
    std::env::var_os("KILLS").and_then(|text| text.to_str()?.parse().ok()).unwrap_or(KILLS)
}

/// Numbers that look random and are the same in every run.
fn draw(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % bound
}

/// Kills a broker with these flags so often, and shows the data that each kill leaves. Returns the last broker, with everything judged, and the counts.
pub(crate) fn check(
    io: Io,
    rounds: (u32, u64),
    flags: &[&str],
    look: &mut dyn FnMut(&Directory),
) -> (Broker, String) {
    let publishers =
        [Publisher::new("one", 1), Publisher::new("two", 2), Publisher::new("kept", 1).retained()];
    check_of(io, rounds, flags, publishers, &mut |directory| {
        look(&directory);
        directory
    })
}

/// [`check`] of these publishers, the last of which has one retained message.
pub(crate) fn check_of(
    io: Io,
    (kills, mut seed): (u32, u64),
    flags: &[&str],
    mut publishers: [Publisher; 3],
    look: &mut dyn FnMut(Directory) -> Directory,
) -> (Broker, String) {
    let flags: Vec<&str> = ["--durability", "process"].iter().chain(&QUEUES).chain(flags).copied().collect();
    let mut subscriber = Subscriber::new("subscriber");
    let mut broker = Broker::start_with(&setup(io, &flags));
    State::make(&broker);
    subscriber.run(broker.address(), Some("t/#"), |subscriber| !subscriber.filters.is_empty());
    let mut unacknowledged = 0;
    // Of each kill: messages that were acknowledged and had not reached the subscriber.
    let mut underway = Vec::new();
    for round in 0..kills {
        let address = broker.address();
        let is_away = draw(&mut seed, 3) == 0;
        let filter = format!("s/{round}");
        // Some kills come amid the first packets, the others once there was an acknowledgement to lose, however slow the machine is.
        let awaited = if draw(&mut seed, 4) == 0 { 0 } else { ACKNOWLEDGEMENTS };
        let progress = AtomicUsize::new(0);
        let delay = Duration::from_millis(20 + draw(&mut seed, 130));
        let directory = thread::scope(|scope| {
            for publisher in &mut publishers {
                scope.spawn(|| publisher.run(address, false, &progress));
            }
            if !is_away {
                scope.spawn(|| subscriber.run(address, Some(&filter), |_| false));
            }
            thread::sleep(delay);
            let deadline = Deadline::after(PATIENCE);
            while progress.load(Relaxed) < awaited && deadline.remaining().is_some() {
                thread::sleep(Duration::from_millis(1));
            }
            broker.kill()
        });
        unacknowledged += publishers
            .iter()
            .map(|publisher| publisher.sent() - publisher.acknowledged.len() as u64)
            .sum::<u64>();
        let acknowledged = publishers.iter().map(|publisher| publisher.acknowledged.len()).sum::<usize>();
        underway.push(acknowledged.saturating_sub(subscriber.received_of(&publishers)));
        broker = Broker::start_in(look(directory), &setup(io, &flags));
    }
    judge(&broker, &mut publishers, &mut subscriber);
    State::judge(&broker, &publishers[2]);
    let acknowledged: Vec<usize> = publishers.iter().map(|publisher| publisher.acknowledged.len()).collect();
    assert!(acknowledged.iter().sum::<usize>() >= ACKNOWLEDGEMENTS * kills as usize / 2, "{acknowledged:?}");
    let repeated = subscriber.repeated.len();
    let counts = format!(
        "{kills} kills: {acknowledged:?} acknowledged, {repeated} repeated, {unacknowledged} sent and not acknowledged at a kill; \
         acknowledged and not delivered at each kill: {underway:?}"
    );
    (broker, counts)
}

/// Ends what is in flight, lets the subscriber receive everything, and compares.
pub(crate) fn judge(broker: &Broker, publishers: &mut [Publisher], subscriber: &mut Subscriber) {
    for publisher in publishers.iter_mut() {
        publisher.run(broker.address(), true, &AtomicUsize::new(0));
    }
    // A message of its own tells each filter.
    let filters: Vec<String> =
        subscriber.filters.iter().filter(|filter| filter.starts_with("s/")).cloned().collect();
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, "last"));
    for filter in &filters {
        peer.publish(&Publish::new(filter, 1, b"1"));
    }
    let deadline = Deadline::after(PATIENCE);
    let awaited: Vec<Numbered> = publishers
        .iter()
        .flat_map(|publisher| {
            publisher.acknowledged.iter().map(|&number| (publisher.name().to_owned(), number))
        })
        .chain(filters.iter().map(|filter| (filter.clone(), 1)))
        .collect();
    let found = Cell::new(0);
    let is_all = |subscriber: &Subscriber| {
        while awaited.get(found.get()).is_some_and(|(publisher, number)| subscriber.has(publisher, *number)) {
            found.set(found.get() + 1);
        }
        found.get() == awaited.len() || deadline.remaining().is_none()
    };
    subscriber.run(broker.address(), None, is_all);
    for publisher in publishers.iter() {
        let lost: Vec<u64> = publisher
            .acknowledged
            .iter()
            .copied()
            .filter(|&number| !subscriber.has(publisher.name(), number))
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} were acknowledged and are lost: {:?}",
            lost.len(),
            publisher.name(),
            &lost[..lost.len().min(20)]
        );
    }
    let missing: Vec<&String> = filters.iter().filter(|filter| !subscriber.has(filter, 1)).collect();
    assert!(missing.is_empty(), "subscriptions that were acknowledged are gone: {missing:?}");
    let twice: Vec<_> = subscriber.repeated.iter().filter(|(publisher, _)| publisher == "two").collect();
    assert!(twice.is_empty(), "QoS 2 came twice: {:?}", &twice[..twice.len().min(20)]);
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (publisher, number) in &subscriber.received {
        let before = last.insert(publisher, *number).unwrap_or(0);
        assert!(before < *number, "{publisher} {number} came after {before}");
    }
}
