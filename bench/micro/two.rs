//! Two shards in one process, without rings between them: the output of one engine goes directly into the other.

use engine::{Actions, ConnectionId, Entropy, Event, Inbound, Instant, Lane, Parcel, Topology};
use wire::QoS;

use crate::host::Host;

pub(crate) struct Two {
    shards: [Host; 2],
    actions: Actions,
}

impl Two {
    pub(crate) fn new() -> Self {
        let shard = |own| Host::meshed(Topology { own, shard_count: 2, key: Entropy(7) });
        Self { shards: [shard(0), shard(1)], actions: Actions::new() }
    }

    /// A client that is connected to a shard and subscribed; the other shard knows its interest.
    pub(crate) fn client(&mut self, shard: usize, name: &str, filters: &[String]) -> ConnectionId {
        let mut names = (0..).map(|number| format!("{name}-{number}"));
        let id = names.find_map(|name| self.shards[shard].client_if_at_home(&name, filters, QoS::AtMostOnce));
        // The other shard receives a request for retained messages, and replies.
        for _ in 0..4 {
            self.exchange();
            for shard in &mut self.shards {
                shard.step_unread(Event::Tick);
            }
        }
        id.expect("half of the names belong to each of two shards")
    }

    /// Feeds the bytes of a shard's client; returns the bytes sent by both shards.
    pub(crate) fn receive_unread(&mut self, shard: usize, id: ConnectionId, bytes: &[u8]) -> usize {
        self.shards[shard].receive_unread(id, bytes) + self.exchange()
    }

    /// Moves all items that each shard has for the other, and reports how many announcements were applied.
    fn exchange(&mut self) -> usize {
        let mut sent_bytes = 0;
        for from in [0, 1] {
            let [first, second] = &mut self.shards;
            let (source, target) = if from == 0 { (first, second) } else { (second, first) };
            let to = 1 - from;
            for lane in [Lane::Data, Lane::Control] {
                while let Some(parcel) =
                    source.engine.parcel(Instant::from_ms(1), to, lane, &mut self.actions)
                {
                    assert!(self.actions.is_empty(), "no client was without credit");
                    let item = match &parcel {
                        Parcel::Block(block) => Inbound::Block(block),
                        Parcel::Large(large) => Inbound::Large(large),
                    };
                    sent_bytes += target.step_unread(Event::Inbox { source: from, item });
                    if let Parcel::Block(block) = parcel {
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
