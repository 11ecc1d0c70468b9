//! Several shards in one process, without rings between them: what comes out of one engine goes into another.
//! Knows the order of calls of engines that are meshed; nothing of what is measured.

use engine::{Actions, ConnectionId, Entropy, Event, InboundItem, Instant, LaneKind, OutboundItem, Topology};
use wire::QoS;

use crate::host::Host;

const NOW: Instant = Instant::from_ms(1);

pub(crate) struct Shards {
    shards: Vec<Host>,
    actions: Actions,
}

impl Shards {
    pub(crate) fn new(shard_count: u16) -> Self {
        let shard = |own| Host::meshed(Topology { own, shard_count, key: Entropy(7) });
        Self { shards: (0..shard_count).map(shard).collect(), actions: Actions::new() }
    }

    /// A client that is connected to a shard and subscribed. The other shards know of it after [`Shards::settle`].
    pub(crate) fn client(&mut self, shard: u16, name: &str, filters: &[String]) -> ConnectionId {
        let shard = &mut self.shards[usize::from(shard)];
        let mut names = (0..).map(|number| format!("{name}-{number}"));
        let id = names.find_map(|name| shard.client_if_at_home(&name, filters, QoS::AtMostOnce));
        id.expect("some of all names are at home on each shard")
    }

    /// Exchanges messages between all shards until every subscription is known everywhere and its retained messages
    /// have been asked for.
    pub(crate) fn settle(&mut self) {
        loop {
            for source in self.numbers() {
                for target in self.numbers().filter(|&target| target != source) {
                    self.exchange_one_way(source, target);
                }
            }
            for shard in &mut self.shards {
                shard.step_unread(Event::Tick);
            }
            let is_quiet = |shard: &Host| {
                let engine = &shard.engine;
                let is_idle = engine.next_deadline().is_none_or(|deadline| deadline > NOW);
                engine.is_settled() && engine.is_outbound_empty() && is_idle
            };
            if self.shards.iter().all(is_quiet) {
                return;
            }
        }
    }

    /// Feeds what a client of a shard sends; the bytes that come out of that shard.
    pub(crate) fn receive_unread(&mut self, shard: u16, id: ConnectionId, bytes: &[u8]) -> usize {
        self.shards[usize::from(shard)].receive_unread(id, bytes)
    }

    /// Moves all that shards `a` and `b` have for each other; the bytes that come out of both.
    pub(crate) fn exchange(&mut self, a: u16, b: u16) -> usize {
        self.exchange_one_way(a, b) + self.exchange_one_way(b, a)
    }

    /// Messages that a shard has sent to others.
    pub(crate) fn forwarded_count(&self, shard: u16) -> u64 {
        self.shards[usize::from(shard)].engine.counters().messages_forwarded
    }

    fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        0..u16::try_from(self.shards.len()).expect("made of a u16")
    }

    /// Moves all that `source` has for `target`, and tells `source` how much of it has been taken in.
    fn exchange_one_way(&mut self, source: u16, target: u16) -> usize {
        let (from, to) = (usize::from(source), usize::from(target));
        let [sender, receiver] = self.shards.get_disjoint_mut([from, to]).expect("two shards");
        let mut sent_bytes = 0;
        for lane in [LaneKind::Data, LaneKind::Control] {
            while let Some(outbound) = sender.engine.take_outbound(NOW, target, lane, &mut self.actions) {
                assert!(self.actions.is_empty(), "no client was without credit");
                let item = match &outbound {
                    OutboundItem::Block(block) => InboundItem::Block(block),
                    OutboundItem::Oversized(large) => InboundItem::Oversized(large),
                };
                sent_bytes += receiver.step_unread(Event::Inbox { source, item });
                if let OutboundItem::Block(block) = outbound {
                    sender.engine.recycle(block);
                }
            }
        }
        let count = receiver.engine.announcements_seen(source);
        sent_bytes + sender.step_unread(Event::Announced { target, count })
    }
}
