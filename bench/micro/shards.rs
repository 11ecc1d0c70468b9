//! Two shards in one process, without rings between them: what comes out of one engine goes into the other.
//! Knows the order of calls of engines that are meshed; nothing of what is measured.

use engine::{Actions, ConnectionId, Entropy, Event, InboundItem, Instant, LaneKind, OutboundItem, Topology};
use wire::QoS;

use crate::host::Host;

pub(crate) struct Shards {
    shards: [Host; 2],
    actions: Actions,
}

impl Shards {
    pub(crate) fn new() -> Self {
        let shard = |own| Host::meshed(Topology { own, shard_count: 2, key: Entropy(7) });
        Self { shards: [shard(0), shard(1)], actions: Actions::new() }
    }

    /// A client that is connected to a shard and subscribed; the other shard knows of it.
    pub(crate) fn client(&mut self, shard: usize, name: &str, filters: &[String]) -> ConnectionId {
        let mut names = (0..).map(|number| format!("{name}-{number}"));
        let id = names.find_map(|name| self.shards[shard].client_if_at_home(&name, filters, QoS::AtMostOnce));
        // The other shard is asked for retained messages, and answers.
        for _ in 0..4 {
            self.exchange();
            for shard in &mut self.shards {
                shard.step_unread(Event::Tick);
            }
        }
        id.expect("every second name is at home on either of two shards")
    }

    /// Feeds what a client of a shard sends; the bytes that come out of both.
    pub(crate) fn receive_unread(&mut self, shard: usize, id: ConnectionId, bytes: &[u8]) -> usize {
        self.shards[shard].receive_unread(id, bytes) + self.exchange()
    }

    /// Moves all that each has for the other, and tells it how much that has taken in.
    fn exchange(&mut self) -> usize {
        let mut sent_bytes = 0;
        for from in [0, 1] {
            let [first, second] = &mut self.shards;
            let (source, target) = if from == 0 { (first, second) } else { (second, first) };
            let to = 1 - from;
            for lane in [LaneKind::Data, LaneKind::Control] {
                while let Some(outbound) =
                    source.engine.take_outbound(Instant::from_ms(1), to, lane, &mut self.actions)
                {
                    assert!(self.actions.is_empty(), "no client was without credit");
                    let item = match &outbound {
                        OutboundItem::Block(block) => InboundItem::Block(block),
                        OutboundItem::Oversized(large) => InboundItem::Oversized(large),
                    };
                    sent_bytes += target.step_unread(Event::Inbox { source: from, item });
                    if let OutboundItem::Block(block) = outbound {
                        source.engine.recycle(block);
                    }
                }
            }
            let count = target.engine.announcements_seen(from);
            sent_bytes += source.step_unread(Event::Announced { target: to, count });
        }
        sent_bytes
    }
}
