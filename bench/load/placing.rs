//! Chooses client identifiers by their shard, so that the two ends of each pair share one shard or never do. The caller
//! finds out the shard of an identifier.

use std::collections::BTreeMap;
use std::io;

use clap::ValueEnum;

use crate::plan::Plan;

/// Identifiers examined to count the shards: one of 64 is missed with probability e^-4, one of 2 practically never.
const SAMPLE: usize = 256;
/// Identifiers tried for each one needed, before giving up.
const TRIES_PER_CLIENT: usize = 1_000;

/// The placement of the two ends of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Placing {
    /// On one shard; pairs use the shards in turn.
    Same,
    /// On two shards.
    Apart,
}

/// Renames the clients of a plan's pairs, so that each is placed as requested.
///
/// # Errors
/// The errors of `shard_of`. An error as well if there is one shard and pairs must be apart.
pub(crate) fn place(
    plan: &mut Plan,
    placing: Placing,
    shard_of: impl FnMut(&str) -> io::Result<u16>,
) -> io::Result<()> {
    let mut drawn = Drawn { shard_of, count: 0, by_shard: BTreeMap::new() };
    while drawn.count < SAMPLE {
        drawn.draw()?;
    }
    let shards: Vec<u16> = drawn.by_shard.keys().copied().collect();
    if placing == Placing::Apart && shards.len() < 2 {
        return Err(io::Error::other("the broker has one shard: nothing can be apart"));
    }
    let count_max = SAMPLE + plan.clients.len() * TRIES_PER_CLIENT;
    for (pair, stream) in plan.streams.iter().enumerate() {
        let publisher = shards[pair % shards.len()];
        let subscriber = match placing {
            Placing::Same => publisher,
            Placing::Apart => shards[(pair + 1) % shards.len()],
        };
        plan.clients[stream.client].name = drawn.take(publisher, count_max)?;
        for client in plan.clients.iter_mut().filter(|client| client.filters.contains(&stream.topic)) {
            client.name = drawn.take(subscriber, count_max)?;
        }
    }
    Ok(())
}

/// Identifiers with a known shard that are not used yet.
struct Drawn<F> {
    shard_of: F,
    count: usize,
    by_shard: BTreeMap<u16, Vec<String>>,
}

impl<F: FnMut(&str) -> io::Result<u16>> Drawn<F> {
    fn draw(&mut self) -> io::Result<()> {
        let name = format!("placed-{}", self.count);
        self.count += 1;
        let shard = (self.shard_of)(&name)?;
        self.by_shard.entry(shard).or_default().push(name);
        Ok(())
    }

    fn take(&mut self, shard: u16, count_max: usize) -> io::Result<String> {
        loop {
            if let Some(name) = self.by_shard.get_mut(&shard).and_then(Vec::pop) {
                return Ok(name);
            }
            if self.count >= count_max {
                return Err(io::Error::other(format!("no client identifier belongs to shard {shard}")));
            }
            self.draw()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wire::QoS;

    use super::*;
    use crate::plan::Scenario;

    /// A broker with three shards that places a client by the last digit.
    fn dealt(name: &str) -> u16 {
        u16::from(name.as_bytes()[name.len() - 1] - b'0') % 3
    }

    fn pairs(placing: Placing) -> Vec<(u16, u16)> {
        let mut plan = Plan::new(Scenario::Pairs, 300, QoS::AtMostOnce);
        place(&mut plan, placing, |name| Ok(dealt(name))).unwrap();
        let names: BTreeSet<_> = plan.clients.iter().map(|client| &client.name).collect();
        assert_eq!(names.len(), 600, "an identifier was given twice");
        let subscriber_of =
            |topic: &String| plan.clients.iter().find(|client| client.filters.contains(topic)).unwrap();
        plan.streams
            .iter()
            .map(|stream| {
                (dealt(&plan.clients[stream.client].name), dealt(&subscriber_of(&stream.topic).name))
            })
            .collect()
    }

    #[test]
    fn pairs_are_placed_as_requested_and_on_all_shards() {
        let same = pairs(Placing::Same);
        assert!(same.iter().all(|(publisher, subscriber)| publisher == subscriber));
        let apart = pairs(Placing::Apart);
        assert!(apart.iter().all(|(publisher, subscriber)| publisher != subscriber));
        for shard in 0..3 {
            assert_eq!(same.iter().filter(|(publisher, _)| *publisher == shard).count(), 100);
            assert_eq!(apart.iter().filter(|(publisher, _)| *publisher == shard).count(), 100);
        }
    }

    #[test]
    fn pairs_cannot_be_apart_on_one_shard() {
        let mut plan = Plan::new(Scenario::Pairs, 1, QoS::AtMostOnce);
        assert!(place(&mut plan, Placing::Apart, |_| Ok(0)).is_err());
        assert!(place(&mut plan, Placing::Same, |_| Ok(0)).is_ok());
    }
}
