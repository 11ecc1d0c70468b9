//! Two shards: forwarded publishes, replays across shards, reassignment and hand-overs between them.

use engine::{
    Actions, Admission, Audit, BLOCK_BYTES, Engine, Entropy, Event, InboundItem, LaneKind, Limits,
    OutboundItem, Refused, Topology,
};
use wire::packet::{PublishProperties, Subscribe, SubscribeFilters, SubscribeOptions, UserProperties};
use wire::{AckKind, Packet, ProtocolVersion, TopicFilter};

use crate::client::{Client, Got, Hello, packet_id, plain, publish};
use crate::host::Shard;

/// Rounds of [`Two::exchange`] after which nothing may be left to send.
const ROUNDS_MAX: usize = 1_000;
/// Longer than any session or time-out of these tests.
const AGE_MS: u64 = 10_000_000;

pub(crate) struct Two(pub(crate) [Shard; 2]);

impl Two {
    fn new() -> Self {
        Self::with(&Limits::default())
    }

    pub(crate) fn with(limits: &Limits) -> Self {
        Self([0, 1].map(|own| {
            let mut shard = Shard::new(limits.clone(), 7);
            shard.engine = Engine::new(limits.clone(), Entropy(7), shard.now()).in_mesh(topology(own));
            shard
        }))
    }

    /// Two shards with logs, which have begun for the first time.
    pub(crate) fn logged(limits: &Limits) -> Self {
        let mut two = Self([0, 1].map(|own| {
            let mut shard = Shard::with_log(limits.clone(), 7, true);
            shard.join(topology(own));
            shard
        }));
        for shard in &mut two.0 {
            shard.begin(Vec::new());
        }
        two.settle();
        two
    }

    /// The process ends, and another one finds everything that was written. No shard is told what another one has.
    pub(crate) fn crash(&mut self) {
        let at_ms = self.0.iter().map(|shard| shard.now().as_ms()).max().unwrap_or(0);
        let read = [0, 1].map(|at| self.0[at].log.read(None, self.0[at].log.batch_count(), at_ms));
        self.0 = read.map(|(mut shard, records)| {
            shard.begin(records);
            shard
        });
        self.settle();
    }

    /// A client whose session lives on a shard.
    fn client(&mut self, shard: u16) -> Client {
        self.0[usize::from(shard)].connect(&Hello::v5(&name_on(shard, 0)))
    }

    pub(crate) fn subscribe(&mut self, shard: usize, client: Client, filter: &str) {
        self.subscribe_with(shard, client, filter, plain(0));
        assert_eq!(self.0[shard].take(client), []);
    }

    /// Subscribes, and exchanges the shard messages that follow. SUBACK comes first.
    pub(crate) fn subscribe_with(
        &mut self,
        shard: usize,
        client: Client,
        filter: &str,
        options: SubscribeOptions,
    ) {
        self.send_subscribe(shard, client, filter, options);
        self.settle();
        let first = self.0[shard].next(client);
        assert!(matches!(first, Some(Got::SubAck(..))), "{first:?}");
    }

    pub(crate) fn send_subscribe(
        &mut self,
        shard: usize,
        client: Client,
        filter: &str,
        options: SubscribeOptions,
    ) {
        let filters = [(TopicFilter::parse(filter).expect("tests use good filters"), options)];
        let subscribe = Subscribe {
            packet_id: packet_id(1),
            subscription_id: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::from_slice(&filters),
        };
        self.0[shard].send(client, &Packet::Subscribe(subscribe));
    }

    /// Exchanges items until no shard has more to send.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.exchange();
            if self.0.iter().all(|shard| shard.engine.is_outbound_empty() && shard.engine.is_settled()) {
                return;
            }
        }
        panic!("it never became quiet");
    }

    /// Moves all waiting items to the other shard, in both directions.
    fn exchange(&mut self) {
        for from in [0, 1] {
            for lane in [LaneKind::Control, LaneKind::Data] {
                self.carry(from, lane, usize::MAX);
            }
            let count = self.0[1 - from].engine.announcements_seen(number(from));
            self.0[from].raw_step(Event::Announced { target: number(1 - from), count });
        }
    }

    /// Moves at most `items_max` items of a lane to the other shard, and returns how many.
    pub(crate) fn carry(&mut self, from: usize, lane: LaneKind, items_max: usize) -> usize {
        let mut count = 0;
        while count < items_max
            && let Some(outbound) = self.0[from].take_outbound(number(1 - from), lane)
        {
            count += 1;
            let item = match &outbound {
                OutboundItem::Block(block) => {
                    assert!(block.len() <= BLOCK_BYTES);
                    InboundItem::Block(block)
                }
                OutboundItem::Oversized(large) => InboundItem::Oversized(large),
            };
            self.0[1 - from].raw_step(Event::Inbox { source: number(from), item });
            if let OutboundItem::Block(block) = outbound {
                self.0[from].engine.recycle(block);
            }
        }
        count
    }

    /// Ends everything and checks that nothing is left on either shard.
    pub(crate) fn finish(mut self) {
        for shard in &mut self.0 {
            shard.hang_up_all();
        }
        self.settle();
        for shard in &mut self.0 {
            shard.advance_ms(AGE_MS);
        }
        self.settle();
        for shard in &self.0 {
            assert_eq!(shard.engine.audit(), Audit { tree: (0, 0, 1), ..Audit::default() });
            assert_eq!((shard.engine.connection_count(), shard.engine.store()), (0, (0, 0)));
        }
    }
}

fn number(shard: usize) -> u16 {
    u16::try_from(shard).expect("there are two")
}

/// The `nth` client identifier whose session lives on a shard.
pub(crate) fn name_on(shard: u16, nth: usize) -> String {
    let names = (0..).map(|number| format!("client-{number}"));
    let mut names = names.filter(|name| topology(0).home_of_client(name) == shard);
    names.nth(nth).expect("half of them are")
}

/// The `nth` topic below `t` whose retained message a shard keeps.
pub(crate) fn topic_on(shard: u16, nth: usize) -> String {
    let topics = (0..).map(|number| format!("t/{number}"));
    let mut topics = topics.filter(|topic| topology(0).home_of_topic(topic) == shard);
    topics.nth(nth).expect("half of them are")
}

pub(crate) fn topology(own: u16) -> Topology {
    Topology { own, shard_count: 2, key: Entropy(9) }
}

#[test]
fn mqtt_3_3_2_5_a_message_that_expires_on_its_way_to_another_shard_is_dropped() {
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
fn mqtt_4_8_2_1_the_filter_behind_a_share_name_matches_like_any_other() {
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
fn mqtt_3_8_3_3_no_local_holds_for_retained_messages_of_another_shard() {
    let mut two = Two::new();
    let (client, other) = (two.client(0), two.client(1));
    // Shard 1 is the home of both topics and knows the publisher of each.
    let (own, foreign) = (topic_on(1, 0), topic_on(1, 1));
    two.0[0].publish_retained(client, &own, b"own", 1);
    two.settle();
    two.0[1].publish_retained(other, &foreign, b"foreign", 1);
    let options = SubscribeOptions { no_local: true, ..plain(0) };
    for (filter, texts) in [("t/#", &["foreign"][..]), (&own, &[]), (&foreign, &["foreign"])] {
        two.subscribe_with(0, client, filter, options);
        assert_eq!(two.0[0].texts(client), texts, "{filter}");
    }
    two.subscribe_with(0, client, &own, plain(0));
    assert_eq!(two.0[0].texts(client), ["own"], "without the option");
    for topic in [own, foreign] {
        two.0[1].publish_retained(other, &topic, b"", 1);
    }
    two.finish();
}

#[test]
fn a_replay_waits_for_the_suback_that_waits_for_another_shard() {
    for filter in ["t/#", &topic_on(0, 0)] {
        let mut two = Two::new();
        let client = two.client(0);
        two.0[0].publish_retained(client, &topic_on(0, 0), b"x", 0);
        two.settle();
        two.send_subscribe(0, client, filter, plain(0));
        two.0[0].advance_ms(10);
        assert_eq!(two.0[0].take(client), [], "the other shard does not know {filter}");
        two.settle();
        let got = two.0[0].take(client);
        assert!(matches!(&got[..], [Got::SubAck(..), Got::Publish(_)]), "{got:?}");
        two.0[0].publish_retained(client, &topic_on(0, 0), b"", 0);
        two.finish();
    }
}

/// A shard has a few page requests open at once. The other clients are served when one is answered.
#[test]
fn more_clients_than_open_requests_are_all_sent_the_retained_messages_of_another_shard() {
    let mut two = Two::new();
    let publisher = two.client(1);
    let topic = topic_on(1, 0);
    two.0[1].publish_retained(publisher, &topic, b"x", 1);
    let clients: Vec<Client> = (0..30).map(|nth| two.0[0].connect(&Hello::v5(&name_on(0, nth)))).collect();
    for &client in &clients {
        two.send_subscribe(0, client, &topic, plain(0));
    }
    two.settle();
    for client in clients {
        assert!(matches!(two.0[0].next(client), Some(Got::SubAck(..))));
        assert_eq!(two.0[0].texts(client), ["x"]);
    }
    two.0[1].publish_retained(publisher, &topic, b"", 1);
    two.finish();
}

/// The publisher gets a success, because its shard does not know how full the other store is.
#[test]
fn a_full_store_refuses_forwarded_retained_messages_and_counts_them() {
    for limits in [
        Limits { retained_messages_max: 1, ..Limits::default() },
        Limits { retained_bytes_max: 10, ..Limits::default() },
    ] {
        let mut two = Two::with(&limits);
        let publisher = two.client(0);
        let topics = [topic_on(1, 0), topic_on(1, 1)];
        for topic in &topics {
            assert_eq!(two.0[0].publish_retained(publisher, topic, b"123", 1), 0x10);
            two.settle();
        }
        let home = |two: &Two| {
            let engine = &two.0[1].engine;
            (engine.retained_count(), engine.counters().retained_refused)
        };
        assert_eq!(home(&two), (1, 1));
        for (payload, expected) in [(&b"456"[..], (1, 1)), (b"", (0, 1))] {
            two.0[0].publish_retained(publisher, &topics[0], payload, 1);
            two.settle();
            assert_eq!(home(&two), expected, "a replacement and a removal need no room");
        }
        two.finish();
    }
}

/// The store of the topic's home decides, not the one of the publisher's shard.
#[test]
fn a_full_store_does_not_refuse_messages_for_the_other_store() {
    let mut two = Two::with(&Limits { retained_messages_max: 1, ..Limits::default() });
    let publisher = two.client(0);
    let topics = [topic_on(0, 0), topic_on(1, 0)];
    for topic in &topics {
        assert_eq!(two.0[0].publish_retained(publisher, topic, b"x", 1), 0x10, "{topic}");
    }
    assert_eq!(two.0[0].publish_retained(publisher, &topic_on(0, 1), b"x", 1), 0x97);
    two.settle();
    let count = |shard: &Shard| (shard.engine.retained_count(), shard.engine.counters().retained_refused);
    assert_eq!(two.0.each_ref().map(count), [(1, 0); 2]);
    assert_eq!(two.0[1].engine.counters().forwarded_unmatched, 0, "it was to be retained");
    for topic in &topics {
        two.0[0].publish_retained(publisher, topic, b"", 1);
    }
    two.finish();
}

/// The publisher's shard does not know whether a session of another shard outlives its connection.
#[test]
fn an_acknowledgement_of_a_forwarded_publish_waits_until_it_is_durable() {
    for filter in ["t", "$share/g/t"] {
        let mut two = Two::new();
        let (publisher, subscriber) = (two.client(0), two.client(1));
        two.subscribe(1, subscriber, filter);
        two.0[0].durable_at_once = false;
        two.0[0].send(publisher, &Packet::Publish(publish("t", b"x", 1, 5)));
        assert_eq!(two.0[0].take(publisher), [], "{filter}");
        two.0[0].durable();
        assert_eq!(two.0[0].acked(publisher, AckKind::PubAck, 5), Some(0));
        assert_eq!(two.0[0].publish(publisher, "other", b"x", 1), 0x10, "nobody takes it");
        two.finish();
    }
}

#[test]
fn a_retained_message_that_expires_on_its_way_from_another_shard_is_sent_to_nobody() {
    for (late_ms, texts) in [(999, &["x"][..]), (1_000, &[]), (1_001, &[])] {
        let mut two = Two::new();
        let (publisher, subscriber) = (two.client(0), two.client(1));
        let topic = topic_on(0, 0);
        let properties =
            PublishProperties { message_expiry_interval_s: Some(1), ..PublishProperties::default() };
        let packet = wire::packet::Publish { retain: true, properties, ..publish(&topic, b"x", 0, 0) };
        two.0[0].send(publisher, &Packet::Publish(packet));
        two.send_subscribe(1, subscriber, &topic, plain(0));
        // Exchanges control items until the page is under way.
        for _ in 0..3 {
            for from in [1, 0] {
                two.carry(from, LaneKind::Control, usize::MAX);
                let count = two.0[1 - from].engine.announcements_seen(number(from));
                two.0[from].raw_step(Event::Announced { target: number(1 - from), count });
            }
        }
        assert_eq!(two.0[0].engine.audit().waiting_outbound, 1, "the answer");
        for shard in &mut two.0 {
            shard.advance_ms(late_ms);
        }
        two.settle();
        assert!(matches!(two.0[1].next(subscriber), Some(Got::SubAck(..))));
        assert_eq!(two.0[1].texts(subscriber), texts, "{late_ms} ms later");
        assert_eq!(two.0[1].engine.counters().matched, texts.len() as u64);
        two.finish();
    }
}

#[test]
fn a_publisher_waits_while_a_lane_is_full_and_goes_on_once_it_has_room() {
    const COUNT: usize = 100;
    let mut two = Two::new();
    let (publisher, subscriber) = (two.client(0), two.client(1));
    two.subscribe(1, subscriber, "t");
    let mut bytes = Vec::new();
    for number in 0..COUNT {
        let payload = format!("{number:09000}");
        Packet::Publish(publish("t", payload.as_bytes(), 0, 0)).encode(ProtocolVersion::V5, &mut bytes);
    }
    two.0[0].send_bytes(publisher, &bytes);
    let mut left = COUNT;
    while left > 0 {
        let waiting = two.0[0].engine.audit().waiting_outbound;
        assert_eq!(waiting, left.min(64), "at most as many items wait as a lane may have");
        assert_eq!(two.0[0].unconsumed_bytes(publisher) > 0, left > 64);
        left -= two.carry(0, LaneKind::Data, 1);
    }
    let numbers = two.0[1].texts(subscriber).into_iter().map(|text| text.parse().expect("a number"));
    assert_eq!(numbers.collect::<Vec<usize>>(), (0..COUNT).collect::<Vec<_>>());
    two.finish();
}

#[test]
fn messages_of_all_sizes_are_forwarded_in_order_and_small_ones_in_blocks_of_bounded_size() {
    let mut two = Two::new();
    let (publisher, subscriber) = (two.client(0), two.client(1));
    two.subscribe(1, subscriber, "t");
    for _ in 0..3 {
        for number in 0..1_000 {
            let width = if number % 50 == 0 { 9_000 } else { 4 + number % 300 };
            let text = format!("{number:0width$}");
            two.0[0].publish(publisher, "t", text.as_bytes(), 0);
        }
        assert!(two.0[0].engine.audit().waiting_outbound > 10);
        two.settle();
        let numbers = two.0[1].texts(subscriber).into_iter().map(|text| text.parse().expect("a number"));
        assert_eq!(numbers.collect::<Vec<usize>>(), (0..1_000).collect::<Vec<_>>());
    }
    two.finish();
}

/// This shard held the messages before, so they may wait here until the lane has room.
#[test]
fn reassigned_messages_wait_while_the_lane_to_the_next_member_is_full() {
    const COUNT: usize = 200;
    /// Items that wait for a lane until it counts as full.
    const ITEMS_MAX: usize = 64;
    let mut two = Two::new();
    let publisher = two.client(0);
    let hello = Hello::v5("").receive_maximum(1);
    let (leaving, staying) = (name_on(0, 1), name_on(1, 0));
    let leaving = {
        let mut hello = hello;
        hello.connect.client_id = &leaving;
        two.0[0].connect(&hello)
    };
    two.subscribe_with(0, leaving, "$share/g/t", plain(1));
    for number in 0..COUNT {
        // Each message is too large for a block, so it is an oversized item.
        two.0[0].publish(publisher, "t", format!("{number:09000}").as_bytes(), 1);
    }
    let staying = two.0[1].connect(&Hello::v5(&staying));
    two.subscribe_with(1, staying, "$share/g/t", plain(1));
    two.0[0].hang_up(leaving);
    let mut left = COUNT;
    while left > 0 {
        let audit = two.0[0].engine.audit();
        // The announcement that the shard has no member any more waits in the control lane.
        assert!(audit.waiting_outbound <= ITEMS_MAX + 1, "{} items", audit.waiting_outbound);
        assert_eq!(audit.reassignments, left.saturating_sub(ITEMS_MAX), "the rest waits");
        left -= two.carry(0, LaneKind::Data, 1);
        two.0[0].tick();
    }
    let numbers = two.0[1].texts(staying).into_iter().map(|text| text.parse().expect("a number"));
    assert_eq!(numbers.collect::<Vec<usize>>(), (0..COUNT).collect::<Vec<_>>());
    two.finish();
}

/// The host may ask for the bytes late. By then, another client may have the connection's identity.
#[test]
fn a_connection_that_ends_before_its_hand_over_leaves_nothing_of_its_connect() {
    let limits = Limits { generation_bits: 1, ..Limits::default() };
    let mut two = Two::with(&limits);
    let shard = &mut two.0[0];
    let names = [name_on(1, 0), name_on(1, 1)];
    let first = shard.dial(&Hello::v5(&names[0]));
    assert_eq!(shard.hand_overs.pop_front(), Some((shard.id(first), 1)));
    shard.hang_up(first);
    let between = shard.dial(&Hello::v5("client"));
    shard.hang_up(between);
    shard.hand_overs.clear();
    let second = shard.dial(&Hello::v5(&names[1]));
    assert_eq!(shard.id(second), shard.id(first), "the identity came again");
    let mut connect = Vec::new();
    Packet::Connect(Hello::v5(&names[1]).connect).encode(ProtocolVersion::V5, &mut connect);
    assert_eq!(shard.complete_hand_over(second), Some(connect));
    assert_eq!(shard.complete_hand_over(second), None, "once");
    two.finish();
}

#[test]
fn a_connection_that_begins_to_close_is_not_handed_over() {
    let mut two = Two::new();
    let shard = &mut two.0[0];
    let client = shard.dial(&Hello::v5(&name_on(1, 0)));
    let connection = shard.id(client);
    let (now, mut actions) = (shard.now(), Actions::new());
    let _nothing = shard.engine.step(now, Event::Disconnect { connection }, &mut actions);
    assert_eq!(shard.engine.complete_hand_over(connection), None);
    shard.hand_overs.clear();
    shard.hang_up(client);
    two.finish();
}

/// The shard that takes over counts the connection and its bytes once more.
#[test]
fn a_connection_that_is_handed_over_leaves_no_timer_and_no_count() {
    let mut two = Two::new();
    let shard = &mut two.0[0];
    let before = shard.engine.counters().clone();
    let client = shard.dial(&Hello::v5(&name_on(1, 0)));
    assert!(shard.complete_hand_over(client).is_some());
    let after = shard.engine.counters();
    assert_eq!(
        (after.connections_accepted, after.packets_received, after.bytes_received),
        (before.connections_accepted, before.packets_received, before.bytes_received)
    );
    assert_eq!((after.handed_over, shard.engine.audit().timers), (1, 0));
    two.finish();
}

#[test]
fn a_hand_over_that_nobody_completes_ends_after_the_connect_time_out() {
    let mut two = Two::new();
    let shard = &mut two.0[0];
    let client = shard.dial(&Hello::v5(&name_on(1, 0)));
    shard.advance_ms(9_999);
    assert!(!shard.is_closed(client));
    shard.advance_ms(1);
    assert!(shard.is_closed(client));
    assert_eq!(shard.complete_hand_over(client), None);
    two.finish();
}

#[test]
fn a_client_that_is_turned_away_is_refused_by_the_shard_that_accepted_it() {
    let mut two = Two::new();
    let shard = &mut two.0[0];
    let name = name_on(1, 0);
    let client = shard.open(ProtocolVersion::V5, Admission::TurnAway(Refused::Full));
    shard.send(client, &Packet::Connect(Hello::v5(&name).connect));
    assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0x97, .. })));
    assert!(shard.is_closed(client) && shard.hand_overs.is_empty());
    two.finish();
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
