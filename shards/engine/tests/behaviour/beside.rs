//! Two shards side by side: what crosses between them.

use engine::{Engine, Entropy, Event, InboundItem, LaneKind, Limits, OutboundItem, Topology};
use wire::packet::{PublishProperties, Subscribe, SubscribeFilters, UserProperties};
use wire::{Packet, ProtocolVersion, TopicFilter};

use crate::client::{Client, Hello, packet_id, plain, publish};
use crate::host::Shard;

struct Two([Shard; 2]);

impl Two {
    fn new() -> Self {
        Self([0, 1].map(|own| {
            let mut shard = Shard::new(Limits::default(), 7);
            shard.engine = Engine::new(Limits::default(), Entropy(7), shard.now()).in_mesh(topology(own));
            shard
        }))
    }

    /// A client whose session lives on a shard.
    fn client(&mut self, shard: u16) -> Client {
        let mut names = (0..).map(|number| format!("client-{number}"));
        let name = names.find(|name| topology(0).home_of_client(name) == shard).expect("one of them is");
        self.0[usize::from(shard)].connect(&Hello::v5(&name))
    }

    fn subscribe(&mut self, shard: usize, client: Client, filter: &str) {
        let filters = [(TopicFilter::parse(filter).expect("tests use good filters"), plain(0))];
        let subscribe = Subscribe {
            packet_id: packet_id(1),
            subscription_id: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::from_slice(&filters),
        };
        self.0[shard].send(client, &Packet::Subscribe(subscribe));
        for _ in 0..3 {
            self.exchange();
        }
        // The answer waits until the other shard knows.
        assert_eq!(self.0[shard].take(client).len(), 1, "SUBACK");
    }

    /// Whatever each has to say reaches the other.
    fn exchange(&mut self) {
        for from in [0_u16, 1] {
            let [first, second] = &mut self.0;
            let (source, target) = if from == 0 { (first, second) } else { (second, first) };
            for lane in [LaneKind::Control, LaneKind::Data] {
                while let Some(outbound) = source.take_outbound(1 - from, lane) {
                    let item = match &outbound {
                        OutboundItem::Block(block) => InboundItem::Block(block),
                        OutboundItem::Oversized(large) => InboundItem::Oversized(large),
                    };
                    target.raw_step(Event::Inbox { source: from, item });
                }
            }
            let count = target.engine.announcements_seen(from);
            source.raw_step(Event::Announced { target: 1 - from, count });
        }
    }
}

fn topology(own: u16) -> Topology {
    Topology { own, shard_count: 2, key: Entropy(9) }
}

#[test]
fn mqtt_3_3_2_5_what_expires_on_its_way_to_another_shard_is_dropped() {
    for (late_ms, texts) in [(900, vec!["x"]), (1_100, vec![])] {
        let mut two = Two::new();
        let (publisher, subscriber) = (two.client(0), two.client(1));
        two.subscribe(1, subscriber, "t");
        let properties =
            PublishProperties { message_expiry_interval_s: Some(1), ..PublishProperties::default() };
        let packet = Packet::Publish(wire::packet::Publish { properties, ..publish("t", b"x", 0, 0) });
        two.0[0].send(publisher, &packet);
        for shard in &mut two.0 {
            shard.advance_ms(late_ms);
        }
        two.exchange();
        assert_eq!(two.0[1].texts(subscriber), texts, "{late_ms} ms later");
        let expired = engine::DropReason::Expired.index();
        assert_eq!(two.0[1].engine.counters().dropped[expired], u64::from(texts.is_empty()));
    }
}

#[test]
fn mqtt_4_8_2_1_behind_a_share_name_stands_a_filter_like_any_other() {
    let mut two = Two::new();
    let (publisher, member) = (two.client(0), two.client(1));
    for filter in ["$share/g/$share/+", "$share/g/$share/h/+"] {
        two.subscribe(1, member, filter);
    }
    for topic in ["secret", "$share/h/x", "$share/y", "h/x"] {
        two.0[0].send(publisher, &Packet::Publish(publish(topic, topic.as_bytes(), 0, 0)));
    }
    two.exchange();
    assert_eq!(two.0[1].texts(member), ["$share/h/x", "$share/y"]);
}

#[test]
fn a_packet_that_only_the_older_version_can_write_is_dropped_for_the_newer() {
    // The largest payload of 3.1.1 leaves no byte for the properties of 5.0.
    let limits = Limits { packet_bytes_max: wire::PACKET_BYTES_MAX, ..Limits::default() };
    crate::host::run(limits, |shard| {
        let subscribers = ["a", "b"].map(|name| shard.connect(&Hello::v5(name)));
        for subscriber in subscribers {
            shard.subscribe(subscriber, "t", 0);
        }
        let publisher = shard.connect(&Hello::v3("p"));
        let payload = vec![0; wire::REMAINING_LENGTH_MAX as usize - 3];
        let mut packet = Vec::new();
        Packet::Publish(publish("t", &payload, 0, 0)).encode(ProtocolVersion::V3_1_1, &mut packet);
        drop(payload);
        shard.send_bytes(publisher, &packet);
        let too_large = engine::DropReason::PacketTooLarge.index();
        assert_eq!(shard.engine.counters().dropped[too_large], 2);
    });
}
