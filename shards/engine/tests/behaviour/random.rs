//! Random legal behaviour of several clients, judged by `oracle`. `SEED=n` repeats one run.

use core::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use engine::{Event, Limits};
use wire::{
    AckKind, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, SubscribeOptions,
    TopicFilter, TopicName, Will, WillProperties,
};

use crate::client::{Client, Got, Hello, packet_id, plain, publish, qos};
use crate::host::{Drain, Shard};
use crate::oracle::{ConnectionModel, Name, Oracle, SessionModel, Wanted, payload};

const SEEDS: u64 = 64;
const STEPS: u32 = 300;
const CLIENTS: usize = 5;
const RECEIVE_MAXIMUM: u16 = 8;
const EXPIRY_S: u32 = 100;
const TOPICS: [&str; 5] = ["t/1", "t/2", "long/topic/1", "long/topic/2", "u"];
const FILTERS: [&str; 8] = ["t/1", "t/+", "t/#", "#", "long/topic/+", "+/topic/1", "u", "+"];
const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// `SplitMix64`: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a small bound")
    }

    fn small(&mut self, bound: u8) -> u8 {
        u8::try_from(self.below(usize::from(bound))).expect("below a small bound")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A QoS 1 or 2 message on its way to the broker.
struct Outgoing {
    id: u16,
    qos: u8,
    topic: &'static str,
    name: Name,
    retain: bool,
    /// PUBREC came.
    received: bool,
}

/// One client identifier: its connection, and the state that it keeps across connections.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
struct Person {
    name: String,
    line: Option<Client>,
    /// CONNACK came.
    greeted: bool,
    /// The Session Present flag that CONNACK must have.
    expects_present: bool,
    persistent: bool,
    /// When its session ends, if it is offline.
    ends_at_ms: Option<u64>,
    /// Its session exists.
    exists: bool,
    session: SessionModel,
    connection: ConnectionModel,
    outgoing: Vec<Outgoing>,
    /// Acknowledgements that it has not sent yet, oldest first.
    due_acks: Vec<(AckKind, u16)>,
    published: u32,
    wills: u32,
    armed_will: Option<Name>,
    next_id: u16,
}

struct World {
    chance: Chance,
    shard: Shard,
    oracle: Oracle,
    people: Vec<Person>,
}

#[test]
fn random_clients_are_served_as_the_standard_promises() {
    #[expect(clippy::disallowed_methods, reason = "one seed is repeated by hand")]
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seeds = only.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let mut deliveries = 0;
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| World::new(seed).run())) {
            Ok(count) => deliveries += count,
            Err(panic) => {
                eprintln!("this was SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    assert!(deliveries > 100, "they had something to do: {deliveries}");
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let limits = Limits {
            receive_maximum: RECEIVE_MAXIMUM,
            inflight_max: chance.of(&[1, 3, 100]),
            outbox_bytes_max: chance.of(&[60, 500, 1_000_000]),
            queue_qos0_offline: chance.one_in(2),
            default_session_expiry_s: EXPIRY_S,
            generation_bits: 2,
            ..Limits::default()
        };
        let people = (0..CLIENTS)
            .map(|number| Person {
                name: format!("c{number}"),
                line: None,
                greeted: false,
                expects_present: false,
                persistent: false,
                ends_at_ms: None,
                exists: false,
                session: SessionModel::default(),
                connection: ConnectionModel::default(),
                outgoing: Vec::new(),
                due_acks: Vec::new(),
                published: 0,
                wills: 0,
                armed_will: None,
                next_id: 0,
            })
            .collect();
        Self { shard: Shard::new(limits, seed), chance, oracle: Oracle::default(), people }
    }

    fn run(mut self) -> u64 {
        for _ in 0..STEPS {
            self.act();
            for who in 0..CLIENTS {
                if self.chance.one_in(2) {
                    self.read(who);
                }
            }
        }
        self.wind_up();
        self.oracle.deliveries
    }

    fn act(&mut self) {
        let who = self.chance.below(CLIENTS);
        match self.chance.below(31) {
            0..=2 => self.connect(who),
            3..=5 => self.subscribe(who),
            6 => self.unsubscribe(who),
            7..=18 => self.publish(who),
            19 => self.leave(who),
            20 => self.vanish(who),
            21 | 22 => {
                if let Some(line) = self.people[who].line {
                    let piece_bytes = self.chance.of(&[1, 5, usize::MAX]);
                    let budget_bytes = self.chance.of(&[0, 40, usize::MAX, usize::MAX]);
                    self.shard.drain(line, Drain { piece_bytes, budget_bytes });
                }
            }
            23 => self.shard.durable_at_once = !self.shard.durable_at_once,
            24 | 25 => {
                self.shard.durable_oldest();
            }
            26 => self.shard.durable(),
            27 => {
                let ms = self.chance.of(&[1, 500, 6_000, 40_000, 200_000]);
                self.pass(ms);
            }
            28 => self.shard.ticks = !self.shard.ticks,
            29 => self.shard.tick(),
            _ => self.evict(who),
        }
    }

    /// The connection of a client whose next packet is read at once.
    fn is_ready(&mut self, who: usize) -> Option<Client> {
        let line = self.people[who].line?;
        self.notice(who);
        let ready = self.people[who].greeted && self.shard.unconsumed_bytes(line) == 0;
        self.people[who].line.filter(|_| ready)
    }

    /// Sends a packet in a few pieces.
    fn send(&mut self, line: Client, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(line.version, &mut bytes);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = if self.chance.one_in(4) { 1 + self.chance.below(rest.len()) } else { rest.len() };
            let (piece, after) = rest.split_at(length);
            self.shard.send_bytes(line, piece);
            rest = after;
        }
    }

    fn connect(&mut self, who: usize) {
        let version = self.chance.of(&VERSIONS);
        let clean_start = self.chance.one_in(4);
        let persistent = if version.is_v5() { !self.chance.one_in(4) } else { !clean_start };
        let receive_maximum = if version.is_v5() { self.chance.of(&[1, 2, 50]) } else { u16::MAX };
        let with_will = self.chance.one_in(3);
        let will_topic = self.chance.of(&TOPICS);
        self.oracle_ends_connection(who);
        let alive = self.exists(&self.people[who]);
        let person = &mut self.people[who];
        person.expects_present = alive && !clean_start;
        if !person.expects_present {
            person.session.begin_anew();
            person.outgoing.clear();
        }
        person.exists = true;
        person.persistent = persistent;
        person.ends_at_ms = None;
        person.greeted = false;
        person.due_acks.clear();
        person.connection = ConnectionModel::new(usize::from(receive_maximum));

        let name = person.name.clone();
        let mut hello = Hello::new(version, &name);
        hello.connect.clean_start = clean_start;
        if version.is_v5() {
            hello = hello.expiry_s(if persistent { EXPIRY_S } else { 0 });
            hello.connect.properties.receive_maximum = NonZeroU16::new(receive_maximum);
            hello = hello.aliases(u16::from(self.chance.small(3)));
        }
        let will_name = (format!("w{who}"), person.wills + 1);
        let will_payload = payload(&will_name);
        if with_will {
            let delay_s = u32::from(self.chance.small(3)) * 20;
            let will_qos = qos(self.chance.small(3));
            hello.connect.will = Some(Will {
                topic: TopicName::parse(will_topic).expect("a good topic"),
                payload: &will_payload,
                qos: will_qos,
                retain: false,
                properties: WillProperties { delay_interval_s: Some(delay_s), ..WillProperties::default() },
            });
            let person = &mut self.people[who];
            person.wills += 1;
            person.armed_will = Some(will_name.clone());
            // The oracle does not know when the will is published, and so not to which sessions.
            self.oracle.publish(&will_name, will_topic, will_qos.bits(), usize::MAX, None);
        }
        let line = self.shard.dial(&hello);
        self.people[who].line = Some(line);
    }

    /// The connection of a client ends now, if it has one, and with it a session that was not to outlive it.
    fn oracle_ends_connection(&mut self, who: usize) {
        let now_ms = self.shard.now().as_ms();
        let person = &mut self.people[who];
        if person.line.take().is_none() {
            return;
        }
        person.greeted = false;
        person.armed_will = None;
        // QoS 1 is not repeated: the broker would take it for a new message.
        person.outgoing.retain(|outgoing| outgoing.qos == 2);
        if person.persistent {
            person.ends_at_ms = Some(now_ms + u64::from(EXPIRY_S) * 1_000);
        } else {
            person.exists = false;
        }
    }

    /// Asserts that the broker did not close the connection: only a take-over would, and the test accounts for that itself.
    fn notice(&mut self, who: usize) {
        if let Some(line) = self.people[who].line {
            assert!(!self.shard.is_closed(line), "client {who} was closed: {:?}", self.shard.take(line));
        }
    }

    fn subscribe(&mut self, who: usize) {
        let Some(line) = self.is_ready(who) else { return };
        let filter = self.chance.of(&FILTERS);
        let mut options = plain(self.chance.small(3));
        if line.version.is_v5() {
            options.no_local = self.chance.one_in(3);
            let handling =
                [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
            options.retain_handling = self.chance.of(&handling);
        }
        self.send_subscribe(line, filter, options);
        let wanted = Wanted { qos: options.qos.bits(), no_local: options.no_local };
        self.people[who].session.subscribe(filter, wanted);
    }

    fn send_subscribe(&mut self, line: Client, filter: &str, options: SubscribeOptions) {
        let id = packet_id(self.shard.packet_id());
        let filters = [(TopicFilter::parse(filter).expect("a good filter"), options)];
        self.send(
            line,
            &Packet::Subscribe(wire::Subscribe {
                packet_id: id,
                subscription_id: None,
                user_properties: wire::UserProperties::default(),
                filters: wire::SubscribeFilters::from_slice(&filters),
            }),
        );
    }

    fn unsubscribe(&mut self, who: usize) {
        let Some(line) = self.is_ready(who) else { return };
        let filter = self.chance.of(&FILTERS);
        let filters = [TopicFilter::parse(filter).expect("a good filter")];
        let packet_id = packet_id(self.shard.packet_id());
        let user_properties = wire::UserProperties::default();
        let filters = wire::UnsubscribeFilters::from_slice(&filters);
        self.send(line, &Packet::Unsubscribe(wire::Unsubscribe { packet_id, user_properties, filters }));
        self.people[who].session.subscriptions.remove(filter);
    }

    fn publish(&mut self, who: usize) {
        let Some(line) = self.is_ready(who) else { return };
        if self.people[who].outgoing.len() >= usize::from(RECEIVE_MAXIMUM) {
            return;
        }
        let (topic, bits, retain) = (self.chance.of(&TOPICS), self.chance.small(3), self.chance.one_in(5));
        let cut_short = self.chance.one_in(40);
        let person = &mut self.people[who];
        person.published += 1;
        person.next_id = person.next_id % 1_000 + 1;
        let outgoing = Outgoing {
            id: person.next_id,
            qos: bits,
            topic,
            name: (person.name.clone(), person.published),
            retain,
            received: false,
        };
        if cut_short {
            // The connection is lost in the middle of the packet, so the packet does not count.
            let mut bytes = Vec::new();
            Packet::Publish(packet_of(&outgoing, &payload(&outgoing.name), false))
                .encode(line.version, &mut bytes);
            self.shard.send_bytes(line, &bytes[..bytes.len() - 1]);
            self.vanish(who);
            return;
        }
        self.send_publish(who, line, &outgoing, false);
        if bits > 0 {
            self.people[who].outgoing.push(outgoing);
        }
    }

    fn send_publish(&mut self, who: usize, line: Client, outgoing: &Outgoing, dup: bool) {
        // The required deliveries are decided before the broker takes the message.
        let sessions: Vec<(usize, &SessionModel, bool)> = self
            .people
            .iter()
            .enumerate()
            .filter(|(_, person)| self.exists(person))
            .map(|(at, person)| (at, &person.session, true))
            .collect();
        let is_read_at_once = self.shard.unconsumed_bytes(line) == 0;
        let sessions = is_read_at_once.then_some(sessions.as_slice());
        self.oracle.publish(&outgoing.name, outgoing.topic, outgoing.qos, who, sessions);
        let payload = payload(&outgoing.name);
        self.send(line, &Packet::Publish(packet_of(outgoing, &payload, dup)));
        let certain = is_read_at_once && !dup && self.shard.unconsumed_bytes(line) == 0;
        if is_read_at_once && !certain && !dup {
            self.oracle.doubt(&outgoing.name);
        }
        if outgoing.retain {
            self.oracle.retain(outgoing.topic, certain.then(|| outgoing.name.clone()));
        }
    }

    fn exists(&self, person: &Person) -> bool {
        let now_ms = self.shard.now().as_ms();
        person.exists && person.ends_at_ms.is_none_or(|ends_at_ms| now_ms < ends_at_ms)
    }

    fn leave(&mut self, who: usize) {
        let Some(line) = self.is_ready(who) else { return };
        if let Some(will) = self.people[who].armed_will.take() {
            self.oracle.cancelled_wills.insert(will);
        }
        self.shard.disconnect(line, ReasonCode::Success, None);
        self.oracle_ends_connection(who);
        self.shard.hang_up(line);
    }

    fn vanish(&mut self, who: usize) {
        let Some(line) = self.people[who].line else { return };
        self.oracle_ends_connection(who);
        self.shard.hang_up(line);
    }

    /// The operator closes a client in any state; the client sends no DISCONNECT.
    fn evict(&mut self, who: usize) {
        let Some(line) = self.people[who].line else { return };
        self.oracle_ends_connection(who);
        self.shard.raw_step(Event::Disconnect { connection: self.shard.id(line) });
        self.shard.hang_up(line);
    }

    /// Time passes, and timers run even while ticks are withheld.
    fn pass(&mut self, ms: u64) {
        self.shard.advance_ms(ms);
    }

    fn read(&mut self, who: usize) {
        let Some(line) = self.people[who].line else { return };
        let hesitates = self.chance.one_in(3);
        while let Some(got) = self.shard.next(line) {
            self.on_packet(who, line, got);
            if self.people[who].line.is_none() {
                return;
            }
        }
        if !hesitates {
            self.acknowledge(who, line);
        }
    }

    fn on_packet(&mut self, who: usize, line: Client, got: Got) {
        let person = &mut self.people[who];
        assert!(person.greeted || matches!(got, Got::ConnAck { .. }), "before CONNACK: {got:?}");
        match got {
            Got::ConnAck { present, reason, .. } => {
                assert_eq!(reason, 0);
                assert!(!person.greeted, "one CONNACK");
                let expected = person.expects_present && line.version != ProtocolVersion::V3_1;
                assert_eq!(present, expected, "client {who}");
                person.greeted = true;
                self.repeat(who, line);
            }
            Got::Publish(message) => {
                self.oracle.deliver(who, &mut person.session, &mut person.connection, &message);
                match message.qos {
                    1 => person.due_acks.push((AckKind::PubAck, message.id)),
                    2 => person.due_acks.push((AckKind::PubRec, message.id)),
                    _ => {}
                }
            }
            Got::Ack(AckKind::PubRel, id, _) => {
                person.session.released(id);
                person.due_acks.push((AckKind::PubComp, id));
            }
            Got::Ack(AckKind::PubRec, id, reason) => {
                assert!(reason < 0x80);
                let outgoing =
                    person.outgoing.iter_mut().find(|outgoing| outgoing.id == id && outgoing.qos == 2);
                outgoing.unwrap_or_else(|| panic!("PUBREC of {id} to {who}")).received = true;
                person.due_acks.push((AckKind::PubRel, id));
            }
            Got::Ack(kind @ (AckKind::PubAck | AckKind::PubComp), id, _) => {
                let bits = if kind == AckKind::PubAck { 1 } else { 2 };
                let at =
                    person.outgoing.iter().position(|outgoing| outgoing.id == id && outgoing.qos == bits);
                person.outgoing.remove(at.unwrap_or_else(|| panic!("{kind:?} of {id} to {who}")));
            }
            Got::SubAck(..) | Got::UnsubAck(..) | Got::PingResp => {}
            Got::Auth(..) => panic!("client {who} named no method"),
            Got::Disconnect(reason, text) => panic!("client {who} was sent {reason:#x} {text:?}"),
        }
    }

    /// A client that reconnected sends its incomplete packets again, in order.
    fn repeat(&mut self, who: usize, line: Client) {
        let outgoing = core::mem::take(&mut self.people[who].outgoing);
        for outgoing in &outgoing {
            if outgoing.received {
                self.send(line, &crate::client::ack(AckKind::PubRel, outgoing.id, ReasonCode::Success));
            } else {
                self.send_publish(who, line, outgoing, true);
            }
        }
        self.people[who].outgoing = outgoing;
    }

    /// Sends the acknowledgements that are due from a client.
    fn acknowledge(&mut self, who: usize, line: Client) {
        for (kind, id) in core::mem::take(&mut self.people[who].due_acks) {
            if matches!(kind, AckKind::PubAck | AckKind::PubComp) {
                let person = &mut self.people[who];
                person.session.acknowledged(&mut person.connection, id);
            }
            self.send(line, &crate::client::ack(kind, id, ReasonCode::Success));
        }
    }

    /// All clients come back and read: every required delivery must come now.
    fn wind_up(&mut self) {
        self.shard.ticks = true;
        self.shard.durable_at_once = true;
        self.shard.durable();
        for who in 0..CLIENTS {
            if let Some(line) = self.people[who].line {
                self.shard.drain(line, Drain::ALL);
            } else if self.exists(&self.people[who]) {
                let person = &mut self.people[who];
                person.expects_present = true;
                person.ends_at_ms = None;
                person.due_acks.clear();
                person.connection = ConnectionModel::new(65_535);
                let name = person.name.clone();
                self.people[who].line = Some(self.shard.dial(&Hello::v5(&name).resume()));
            }
        }
        for _ in 0..400 {
            for who in 0..CLIENTS {
                self.read(who);
            }
            self.shard.tick();
        }
        let alive: Vec<_> = (0..CLIENTS)
            .filter(|who| self.people[*who].line.is_some())
            .map(|who| (who, self.people[who].session.number))
            .collect();
        self.oracle.check_complete(&alive);
        for who in 0..CLIENTS {
            let person = &self.people[who];
            let waits: Vec<u16> = person.outgoing.iter().map(|outgoing| outgoing.id).collect();
            assert!(person.line.is_none() || waits.is_empty(), "client {who} waits for {waits:?}");
            self.vanish(who);
        }
        // Delayed wills are published, and then a new client subscribes to all retained messages.
        self.pass(300_000);
        let stranger = self.shard.connect(&Hello::v5("stranger"));
        self.shard.subscribe(stranger, "#", 0);
        let retained = self.shard.messages(stranger);
        self.oracle.check_retained(&retained);
        self.shard.finish();
    }
}

fn packet_of<'a>(outgoing: &Outgoing, payload: &'a [u8], dup: bool) -> Publish<'a> {
    let packet = publish(outgoing.topic, payload, outgoing.qos, outgoing.id);
    let packet_id = PacketId::new(outgoing.id).filter(|_| packet.qos != QoS::AtMostOnce);
    Publish { dup, retain: outgoing.retain, packet_id, ..packet }
}
