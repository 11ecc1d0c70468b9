//! A broker of several shards, and its reports on each of them: the shard of a client, and the counters of every
//! shard.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::broker::{Broker, Directory, Io, Setup};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::received::Value;
use crate::harness::time::{Deadline, PATIENCE};

/// The counters that one shard reports on a signal.
#[derive(Clone, Debug)]
pub(crate) struct Shard(Vec<(String, u64)>);

impl Shard {
    pub(crate) fn count(&self, name: &str) -> u64 {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.unwrap_or_else(|| panic!("a shard does not report {name}: {self:?}")).1
    }

    fn parse(line: &str) -> Option<Self> {
        let (_, fields) = line.split_once(" INFO shard ")?;
        let field = |field: &str| {
            let (name, value) = field.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        fields.split_whitespace().map(field).collect::<Option<_>>().map(Self)
    }
}

/// A broker of `shards` shards. It is our own binary even if `BROKER` names another, because no other broker reports
/// its shards.
pub(crate) fn start(io: Io, shards: u16, flags: &[&str]) -> Broker {
    start_in(Directory::new(), io, shards, flags)
}

/// Like `start`, with the data that an earlier broker left in `directory`.
pub(crate) fn start_in(directory: Directory, io: Io, shards: u16, flags: &[&str]) -> Broker {
    let shards = shards.to_string();
    let mut all = vec!["--shards", &shards, "--tell-shard", "true", "--stats-interval", "0"];
    all.extend(flags);
    Broker::start_in(directory, &Setup { io, flags: &all, ..Setup::default() })
}

/// The current counters of each shard, in order. A shard publishes them at the end of its turn.
pub(crate) fn shards(broker: &mut Broker, count: u16) -> Vec<Shard> {
    let mark = broker.process().mark();
    broker.process().signal(Signal::USR1);
    let is_last =
        |line: &str| Shard::parse(line).is_some_and(|shard| shard.count("shard") == u64::from(count) - 1);
    broker.process().wait_for(mark, "line of the last shard", is_last);
    let shards: Vec<Shard> =
        broker.process().lines()[mark..].iter().filter_map(|(_, line)| Shard::parse(line)).collect();
    assert_eq!(shards.len(), usize::from(count), "{shards:?}");
    shards
}

/// Like `shards`, once `settled` holds for them.
pub(crate) fn await_shards(
    broker: &mut Broker,
    count: u16,
    settled: impl Fn(&[Shard]) -> bool,
) -> Vec<Shard> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let shards = shards(broker, count);
        if settled(&shards) {
            return shards;
        }
        assert!(deadline.remaining().is_some(), "the shards never reached the expected state: {shards:?}");
        // The end of a turn is not visible from outside.
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn sum(shards: &[Shard], name: &str) -> u64 {
    shards.iter().map(|shard| shard.count(name)).sum()
}

/// The number of the shard in the CONNACK of this client of version 5.
pub(crate) fn shard_of(peer: &Peer) -> u16 {
    let number = peer.properties.iter().find_map(|(_, value)| match value {
        Value::Pair(key, value) if key == "shard" => value.parse().ok(),
        Value::Pair(..) | Value::Number(_) | Value::Bytes(_) => None,
    });
    number.unwrap_or_else(|| panic!("CONNACK does not contain the shard: {:?}", peer.properties))
}

/// A client identifier whose session lives on `shard`.
pub(crate) fn client_at_home(broker: &Broker, shard: u16, name: &str) -> String {
    for attempt in 0..1_000 {
        let client_id = format!("{name}-{shard}-{attempt}");
        let peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &client_id));
        let home = shard_of(&peer);
        peer.disconnect();
        if home == shard {
            return client_id;
        }
    }
    panic!("of 1000 client identifiers none lives on shard {shard}");
}

/// A connected client whose session lives on `shard`.
pub(crate) fn peer_at_home(broker: &Broker, shard: u16, version: Version, name: &str) -> Peer {
    let client_id = client_at_home(broker, shard, name);
    Peer::connect(broker.address(), &Connect::new(version, &client_id))
}
