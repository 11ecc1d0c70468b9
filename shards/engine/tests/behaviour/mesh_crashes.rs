//! Several shards, each with a log, whose process crashes. Items wait in lanes, disks are late, and a crash leaves each log a prefix of
//! its own that has everything that was synced. Afterwards every acknowledged message has reached every subscription that was
//! acknowledged before it was published, on whatever shard, QoS 2 once, and the first copies in order. One member of each group has a
//! message, also if another one left meanwhile. A retained message is the one that was acknowledged last, or a later one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use engine::{Entropy, Event, InboundItem, LaneKind, Limits, OutboundItem, Topology};
use wire::{
    AckKind, Packet, Publish, Subscribe, SubscribeFilters, TopicFilter, Unsubscribe, UnsubscribeFilters,
    UserProperties,
};

use crate::client::{Client, Got, Hello, packet_id, plain, publish};
use crate::crashing::{Chance, Outgoing};
use crate::host::Shard;

const SEEDS: u64 = 60;
const STEPS: usize = 800;
const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const TOPICS: [&str; 4] = ["t/1", "t/2", "u", "s/1"];
/// The last one is a group's.
const FILTERS: [&str; 6] = ["t/1", "t/+", "t/#", "u", "r/+", SHARED];
const SHARED: &str = "$share/g/s/+";
const RETAINED: [&str; 3] = ["r/1", "r/2", "r/3"];
/// Bytes of a payload that is shared instead of copied.
const LARGE: usize = 5_000;
/// Items that move from one lane at once.
const ITEMS_MAX: usize = 2;
/// Rounds in which nobody has anything to do after which nothing comes.
const QUIET_ROUNDS: usize = 8;
/// Rounds after which nothing is left to do.
const ROUNDS: usize = 1_000;

/// A published message, and the clients that it has to reach.
struct Message {
    topic: &'static str,
    qos: u8,
    publisher: usize,
    is_acknowledged: bool,
    is_retained: bool,
    /// Each with the QoS of its subscription.
    owed: BTreeMap<usize, u8>,
    /// It is owed to a member of the group.
    is_shared: bool,
}

/// A client with a persistent session, as its application sees it.
#[derive(Default)]
struct Peer {
    client: Option<Client>,
    /// CONNACK came on this connection.
    is_open: bool,
    /// A CONNACK came on any connection: the session is promised.
    has_session: bool,
    /// Acknowledged subscriptions.
    filters: BTreeMap<&'static str, u8>,
    /// Subscriptions that were asked for on this connection.
    asked: BTreeMap<u16, (&'static str, u8)>,
    /// Subscriptions that it gave up or is about to.
    leaving: BTreeSet<&'static str>,
    outgoing: VecDeque<Outgoing>,
    /// Messages of QoS 2 between PUBLISH and PUBREL.
    pending: BTreeSet<u16>,
    /// Numbers of messages, in the order in which they came.
    got: Vec<usize>,
    inbox: VecDeque<Got>,
    next_id: u16,
    /// Every filter that it ever asked for, and how often.
    ever_asked: BTreeMap<&'static str, usize>,
    /// Messages that were delivered to all before it subscribed to their topic for the first time.
    forbidden: BTreeSet<usize>,
}

struct World {
    shards: Vec<Shard>,
    /// By source, target and kind: items on their way.
    lanes: Vec<VecDeque<OutboundItem>>,
    chance: Chance,
    peers: Vec<Peer>,
    messages: Vec<Message>,
    crashes: usize,
    awaited_at_crashes: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let limits = Limits {
            inflight_max: [2, 5, 1024][chance.below(3)],
            step_work_max: [2, 500][chance.below(2)],
            default_session_expiry_s: 1_000_000,
            journal_start: core::num::NonZeroU32::new(1),
            ..Limits::default()
        };
        let shard_count = u16::try_from(2 + chance.below(2)).expect("2 or 3");
        let shards = (0..shard_count).map(|own| {
            let mut shard = Shard::with_log(limits.clone(), seed, true);
            shard.join(Topology { own, shard_count, key: Entropy(9) });
            shard.durable_at_once = false;
            shard.begin(Vec::new());
            shard
        });
        let shards: Vec<Shard> = shards.collect();
        let lanes = (0..shards.len() * shards.len() * 2).map(|_| VecDeque::new()).collect();
        let peers = NAMES.iter().map(|_| Peer::default()).collect();
        let mut world =
            Self { shards, lanes, chance, peers, messages: Vec::new(), crashes: 0, awaited_at_crashes: 0 };
        world.begin();
        world
    }

    /// The shards get to know each other before any client.
    fn begin(&mut self) {
        for _ in 0..ROUNDS {
            self.move_all(usize::MAX, true);
            if self.shards.iter().all(|shard| shard.engine.is_settled()) {
                return;
            }
        }
        panic!("the shards do not get to know each other");
    }

    fn home(&self, who: usize) -> usize {
        let shard_count = u16::try_from(self.shards.len()).expect("few");
        Topology { own: 0, shard_count, key: Entropy(9) }.home_of_client(NAMES[who]).into()
    }

    fn shard(&mut self, who: usize) -> &mut Shard {
        let home = self.home(who);
        &mut self.shards[home]
    }

    fn act(&mut self) {
        let who = self.chance.below(NAMES.len());
        let shard = self.chance.below(self.shards.len());
        match self.chance.below(36) {
            0..=2 => self.connect(who),
            3 => self.subscribe(who),
            4..=9 => self.publish(who),
            15..=17 => {
                self.shards[shard].durable_oldest();
            }
            18..=27 => {
                let target = self.chance.below(self.shards.len());
                let count = 1 + self.chance.below(ITEMS_MAX);
                self.move_items(shard, target, count, false);
            }
            28 | 29 => self.shards[shard].sync(),
            30 if self.chance.one_in(2) => self.hang_up(who),
            31 if self.chance.one_in(3) => self.unsubscribe(who),
            32 if self.chance.one_in(4) => self.crash(),
            33 if self.chance.one_in(4) => self.discard(who),
            34 if self.chance.one_in(2) => self.move_all(usize::MAX, true),
            _ => self.read(who),
        }
    }

    /// Fills the lanes from one shard to another, and moves items out of them. `all` of one kind can be meant.
    fn move_items(&mut self, source: usize, target: usize, count: usize, all: bool) {
        if source == target {
            return;
        }
        let (from, to) = (u16::try_from(source).expect("few"), u16::try_from(target).expect("few"));
        for (kind, lane) in [LaneKind::Control, LaneKind::Data].into_iter().enumerate() {
            if !all && self.chance.one_in(3) {
                continue;
            }
            let at = (source * self.shards.len() + target) * 2 + kind;
            while let Some(item) = self.shards[source].take_outbound(to, lane) {
                self.lanes[at].push_back(item);
            }
            for _ in 0..count {
                if lane == LaneKind::Data && !self.shards[target].engine.takes_data() {
                    break;
                }
                let Some(item) = self.lanes[at].pop_front() else { break };
                let inbound = match &item {
                    OutboundItem::Block(block) => InboundItem::Block(block),
                    OutboundItem::Oversized(large) => InboundItem::Oversized(large),
                };
                self.shards[target].raw_step(Event::Inbox { source: from, item: inbound });
            }
        }
        let count = self.shards[target].engine.announcements_seen(from);
        self.shards[source].raw_step(Event::Announced { target: to, count });
    }

    fn move_all(&mut self, count: usize, all: bool) {
        for source in 0..self.shards.len() {
            for target in 0..self.shards.len() {
                self.move_items(source, target, count, all);
            }
        }
    }

    fn connect(&mut self, who: usize) {
        if self.peers[who].client.is_none() {
            let client = self.shard(who).dial(&Hello::v3(NAMES[who]).resume());
            let peer = &mut self.peers[who];
            (peer.client, peer.is_open) = (Some(client), false);
            peer.asked.clear();
            peer.inbox.clear();
        }
    }

    fn hang_up(&mut self, who: usize) {
        if let Some(client) = self.peers[who].client.take() {
            self.shard(who).hang_up(client);
        }
    }

    fn next_id(&mut self, who: usize) -> u16 {
        let peer = &mut self.peers[who];
        peer.next_id = peer.next_id % 1_000 + 1;
        peer.next_id
    }

    fn subscribe(&mut self, who: usize) {
        let Some(client) = self.peers[who].client.filter(|_| self.peers[who].is_open) else { return };
        let id = self.next_id(who);
        let filter = FILTERS[self.chance.below(FILTERS.len())];
        if self.peers[who].leaving.contains(filter) {
            return;
        }
        // Otherwise it would be uncertain what is owed.
        let qos = granted(who);
        self.forbid(who, filter);
        *self.peers[who].ever_asked.entry(filter).or_default() += 1;
        self.peers[who].asked.insert(id, (filter, qos));
        let parsed = TopicFilter::parse(filter).expect("tests use good filters");
        self.shard(who).send(
            client,
            &Packet::Subscribe(Subscribe {
                packet_id: packet_id(id),
                subscription_id: None,
                user_properties: UserProperties::default(),
                filters: SubscribeFilters::from_slice(&[(parsed, plain(qos))]),
            }),
        );
    }

    /// If everything that was acknowledged has reached its shard, nothing of it may reach somebody who subscribes now.
    fn forbid(&mut self, who: usize, filter: &str) {
        let is_at_rest = self.lanes.iter().all(VecDeque::is_empty)
            && self.shards.iter().all(|shard| shard.engine.is_outbound_empty());
        if !is_at_rest || filter == SHARED {
            return;
        }
        for (number, message) in self.messages.iter().enumerate() {
            let matches = |filter: &str| {
                filter != SHARED && TopicFilter::parse(filter).expect("a good filter").matches(message.topic)
            };
            let peer = &mut self.peers[who];
            let was_asked = peer.ever_asked.keys().any(|filter| matches(filter));
            if message.is_acknowledged && !message.is_retained && matches(filter) && !was_asked {
                peer.forbidden.insert(number);
            }
        }
    }

    /// Whether a member can leave the group without being the last one.
    fn may_leave(&self, who: usize) -> bool {
        let others = self.peers.iter().filter(|peer| peer.filters.contains_key(SHARED)).count();
        others > usize::from(self.peers[who].filters.contains_key(SHARED))
    }

    /// A subscription or all of them end: nothing is owed because of it.
    fn owe_nothing(&mut self, who: usize) {
        for message in &mut self.messages {
            message.owed.remove(&who);
        }
    }

    /// A client discards its session.
    fn discard(&mut self, who: usize) {
        // A message that it repeats afterwards would be another one.
        let is_busy = self.peers[who].client.is_some() || !self.peers[who].outgoing.is_empty();
        if is_busy || !self.may_leave(who) {
            return;
        }
        let client = self.shard(who).dial(&Hello::v3(NAMES[who]));
        self.shard(who).hang_up(client);
        self.owe_nothing(who);
        let peer = &mut self.peers[who];
        peer.has_session = false;
        peer.filters.clear();
    }

    /// A client gives a subscription up. It does not ask for it again before that is acknowledged.
    fn unsubscribe(&mut self, who: usize) {
        let Some(client) = self.peers[who].client.filter(|_| self.peers[who].is_open) else { return };
        let at = self.chance.below(FILTERS.len());
        let filter = FILTERS[at];
        if !self.may_leave(who) || self.peers[who].filters.remove(filter).is_none() {
            return;
        }
        self.owe_nothing(who);
        let id = self.next_id(who);
        self.peers[who].asked.insert(id, (filter, 0));
        self.peers[who].leaving.insert(filter);
        let filters = [TopicFilter::parse(filter).expect("a good filter")];
        self.shard(who).send(
            client,
            &Packet::Unsubscribe(Unsubscribe {
                packet_id: packet_id(id),
                user_properties: UserProperties::default(),
                filters: UnsubscribeFilters::from_slice(&filters),
            }),
        );
    }

    fn publish(&mut self, who: usize) {
        let Some(client) = self.peers[who].client.filter(|_| self.peers[who].is_open) else { return };
        let id = self.next_id(who);
        if self.peers[who].outgoing.iter().any(|outgoing| outgoing.id == id) {
            return;
        }
        let qos = u8::try_from(1 + self.chance.below(2)).expect("1 or 2");
        let is_retained = self.chance.one_in(4);
        let topic = if is_retained {
            RETAINED[self.chance.below(RETAINED.len())]
        } else {
            TOPICS[self.chance.below(TOPICS.len())]
        };
        // Of two QoS the one that is repeated later would count.
        let qos = if is_retained { 1 + u8::from(topic == RETAINED[1]) } else { qos };
        let owed = self.peers.iter().enumerate().filter_map(|(at, peer)| {
            let matching = peer.filters.iter().filter(|(filter, _)| {
                **filter != SHARED
                    && TopicFilter::parse(filter).expect("tests use good filters").matches(topic)
            });
            Some((at, *matching.map(|(_, qos)| qos).max()?))
        });
        let owed = owed.collect();
        let number = self.messages.len();
        let is_shared =
            topic.starts_with("s/") && self.peers.iter().any(|peer| peer.filters.contains_key(SHARED));
        let (publisher, is_acknowledged) = (who, false);
        self.messages.push(Message { topic, qos, publisher, is_acknowledged, is_retained, owed, is_shared });
        self.peers[who].outgoing.push_back(Outgoing { id, number, is_received: false });
        self.send_message(who, client, id, number, false);
    }

    fn send_message(&mut self, who: usize, client: Client, id: u16, number: usize, dup: bool) {
        let Message { topic, qos, is_retained, .. } = self.messages[number];
        let width = if number.is_multiple_of(3) { LARGE } else { 0 };
        let payload = format!("{number:width$}");
        let packet = Publish { dup, retain: is_retained, ..publish(topic, payload.as_bytes(), qos, id) };
        self.shard(who).send(client, &Packet::Publish(packet));
    }

    /// A client looks at some of the packets that it was sent.
    fn read(&mut self, who: usize) {
        let Some(client) = self.peers[who].client else { return };
        let got = self.shard(who).take(client);
        self.peers[who].inbox.extend(got);
        for _ in 0..=self.chance.below(4) {
            let Some(got) = self.peers[who].inbox.pop_front() else { return };
            self.on_packet(who, client, got);
        }
    }

    fn on_packet(&mut self, who: usize, client: Client, got: Got) {
        let peer = &mut self.peers[who];
        match got {
            Got::ConnAck { present, reason: 0, .. } => {
                assert!(present || !peer.has_session, "the session of {} was lost", NAMES[who]);
                if !present {
                    peer.pending.clear();
                    peer.filters.clear();
                }
                (peer.is_open, peer.has_session) = (true, true);
                for Outgoing { id, number, is_received } in peer.outgoing.clone() {
                    if is_received {
                        self.shard(who).ack(client, AckKind::PubRel, id);
                    } else {
                        self.send_message(who, client, id, number, true);
                    }
                }
            }
            Got::UnsubAck(id, _) => {
                let (filter, _) = peer.asked.remove(&id).expect("it was asked for");
                peer.leaving.remove(filter);
            }
            Got::SubAck(id, codes) => {
                let (filter, qos) = peer.asked.remove(&id).expect("it was asked for");
                assert_eq!(codes, [qos]);
                if !peer.leaving.contains(filter) {
                    peer.filters.insert(filter, qos);
                }
            }
            Got::Publish(message) => {
                let number: usize = message.text().trim().parse().expect("a number");
                match message.qos {
                    1 => {
                        peer.got.push(number);
                        self.shard(who).ack(client, AckKind::PubAck, message.id);
                    }
                    2 => {
                        if peer.pending.insert(message.id) {
                            peer.got.push(number);
                        }
                        self.shard(who).ack(client, AckKind::PubRec, message.id);
                    }
                    other => panic!("QoS {other}"),
                }
            }
            Got::Ack(AckKind::PubRel, id, _) => {
                peer.pending.remove(&id);
                self.shard(who).ack(client, AckKind::PubComp, id);
            }
            Got::Ack(AckKind::PubRec, id, _) => {
                let outgoing = peer.outgoing.iter_mut().find(|outgoing| outgoing.id == id);
                if let Some(outgoing) = outgoing {
                    outgoing.is_received = true;
                    self.messages[outgoing.number].is_acknowledged = true;
                    self.shard(who).ack(client, AckKind::PubRel, id);
                }
            }
            Got::Ack(AckKind::PubAck | AckKind::PubComp, id, _) => {
                if let Some(at) = peer.outgoing.iter().position(|outgoing| outgoing.id == id) {
                    let outgoing = peer.outgoing.remove(at).expect("it was found");
                    self.messages[outgoing.number].is_acknowledged = true;
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// The process ends, and another one finds what the disks have of the logs.
    fn crash(&mut self) {
        self.crashes += 1;
        let passed_ms = self.chance.below(5_000) as u64;
        let now_ms = self.shards.iter().map(|shard| shard.now().as_ms()).max().unwrap_or(0) + passed_ms;
        let mut read = Vec::new();
        for at in 0..self.shards.len() {
            let log = &self.shards[at].log;
            let (synced, all) = (log.synced_count(), log.batch_count());
            let kept = synced + self.chance.below(all - synced + 1);
            self.awaited_at_crashes += all - synced;
            read.push(log.read(None, kept, now_ms));
        }
        if self.chance.one_in(2) {
            // This spares repetitions, and nothing else.
            for (source, target) in pairs(read.len()) {
                let upto = read[target].0.engine.recovered_transfer(u16::try_from(source).expect("few"));
                read[source].0.engine.recover_settled(u16::try_from(target).expect("few"), upto);
            }
        }
        self.shards.clear();
        self.lanes.iter_mut().for_each(VecDeque::clear);
        for (mut shard, records) in read {
            shard.durable_at_once = false;
            shard.begin(records);
            self.shards.push(shard);
        }
        // Another crash may come before they know each other.
        if self.chance.one_in(4) {
            for _ in 0..self.chance.below(4) {
                self.move_all(1, false);
            }
            return self.crash();
        }
        self.begin();
        for who in 0..NAMES.len() {
            let peer = &mut self.peers[who];
            (peer.client, peer.is_open) = (None, false);
            peer.inbox.clear();
            peer.leaving.clear();
        }
    }

    /// Everybody comes back, and everything is delivered.
    fn settle(&mut self) {
        for shard in &mut self.shards {
            shard.durable_at_once = true;
            shard.sync();
        }
        let mut quiet_rounds = 0;
        for _ in 0..ROUNDS {
            for who in 0..NAMES.len() {
                self.connect(who);
                self.read(who);
            }
            self.move_all(usize::MAX, true);
            self.shards.iter_mut().for_each(Shard::sync);
            let is_quiet = self.peers.iter().all(|peer| {
                peer.is_open && peer.inbox.is_empty() && peer.outgoing.is_empty() && peer.pending.is_empty()
            });
            quiet_rounds = if is_quiet { quiet_rounds + 1 } else { 0 };
            if quiet_rounds > QUIET_ROUNDS {
                return;
            }
        }
    }

    fn judge(&mut self) {
        for (number, message) in self.messages.iter().enumerate() {
            let Message { topic, qos, is_acknowledged, is_shared, .. } = *message;
            assert!(is_acknowledged, "message {number} was acknowledged at last");
            let counts = self.peers.iter().map(|peer| peer.got.iter().filter(|&&got| got == number).count());
            let counts: Vec<usize> = counts.collect();
            for &who in message.owed.keys() {
                let (count, name) = (counts[who], NAMES[who]);
                assert!(count > 0, "message {number} of QoS {qos} to {topic} never reached {name}");
            }
            if is_shared {
                let count: usize = counts.iter().sum();
                assert!(count > 0, "message {number} of QoS {qos} reached no member");
                let is_exact = counts.iter().enumerate().all(|(who, &count)| count == 0 || granted(who) == 2);
                assert!(qos < 2 || !is_exact || count == 1, "message {number} reached {count} members");
            }
        }
        for (who, peer) in self.peers.iter().enumerate() {
            assert!(peer.pending.is_empty() && peer.outgoing.is_empty());
            self.judge_got(who);
            let mut seen = BTreeSet::new();
            let mut last = BTreeMap::new();
            for &number in peer.got.iter().filter(|&&number| seen.insert(number)) {
                let Message { qos, publisher, ref owed, .. } = self.messages[number];
                if !owed.contains_key(&who) {
                    // It was published before the subscription, and once more after it.
                    continue;
                }
                let before = last.insert((publisher, qos), number);
                assert!(before.is_none_or(|before| before < number), "{number} at {}", NAMES[who]);
            }
        }
        for shard in &self.shards {
            let audit = shard.engine.audit();
            assert_eq!((audit.open_transfers, audit.waiting_outbound, audit.pending_acks), (0, 0, 0));
        }
        self.judge_retained();
    }

    /// Nobody has a message of QoS 2 twice, or one that was there before its subscription.
    fn judge_got(&self, who: usize) {
        let (peer, name) = (&self.peers[who], NAMES[who]);
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        peer.got.iter().for_each(|&number| *counts.entry(number).or_default() += 1);
        for (number, count) in counts {
            assert!(!peer.forbidden.contains(&number), "{number} was there before {name} subscribed");
            let message = &self.messages[number];
            // Each subscription asks for retained messages.
            let retained = peer.ever_asked.get("r/+").filter(|_| message.is_retained).copied().unwrap_or(0);
            assert!(
                message.qos.min(granted(who)) < 2 || count <= 1 + retained,
                "message {number} of QoS 2 to {} reached {name} {count} times",
                message.topic
            );
        }
    }

    /// The retained message of each topic is the last one of some publisher.
    fn judge_retained(&mut self) {
        let reader = self.shards[0].connect(&Hello::v5("reader 0"));
        let filters = [(TopicFilter::parse("r/+").expect("a good filter"), plain(0))];
        let subscribe = Subscribe {
            packet_id: packet_id(1),
            subscription_id: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::from_slice(&filters),
        };
        self.shards[0].send(reader, &Packet::Subscribe(subscribe));
        for _ in 0..20 {
            self.move_all(usize::MAX, true);
            self.shards.iter_mut().for_each(Shard::sync);
        }
        let got = self.shards[0].take(reader).into_iter().filter_map(|got| match got {
            Got::Publish(message) => {
                Some((message.topic.clone(), message.text().trim().parse::<usize>().expect("a number")))
            }
            _ => None,
        });
        let got: BTreeMap<String, usize> = got.collect();
        for topic in RETAINED {
            let all = self.messages.iter().enumerate().filter(|(_, message)| message.topic == topic);
            let mut last_of: BTreeMap<usize, usize> = BTreeMap::new();
            all.for_each(|(number, message)| {
                last_of.insert(message.publisher, number);
            });
            match got.get(topic) {
                None => assert!(last_of.is_empty(), "nothing is retained for {topic} but {last_of:?}"),
                Some(number) => {
                    assert!(last_of.values().any(|last| last == number), "{topic}: {number} of {last_of:?}");
                }
            }
        }
        self.shards[0].hang_up(reader);
    }
}

/// The QoS of all subscriptions of a client.
fn granted(who: usize) -> u8 {
    if who.is_multiple_of(2) { 2 } else { 1 }
}

/// Two different shards in each order.
fn pairs(shard_count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..shard_count).flat_map(move |source| {
        (0..shard_count).filter(move |&target| target != source).map(move |target| (source, target))
    })
}

#[test]
fn what_is_acknowledged_on_any_shard_survives_every_crash() {
    #[expect(clippy::disallowed_methods, reason = "one seed is repeated by hand")]
    let [only, count] = ["SEED", "SEEDS"]
        .map(|name| std::env::var(name).ok().map(|seed| seed.parse::<u64>().expect("a number")));
    let seeds = only.map_or(0..count.unwrap_or(SEEDS), |seed| seed..seed + 1);
    let (mut crashes, mut messages, mut awaited) = (0, 0, 0);
    for seed in seeds.clone() {
        let mut world = World::new(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..STEPS {
                world.act();
            }
            world.settle();
            world.judge();
        }));
        if let Err(panic) = outcome {
            println!("SEED={seed}");
            resume_unwind(panic);
        }
        crashes += world.crashes;
        messages += world.messages.len();
        awaited += world.awaited_at_crashes;
    }
    println!("{crashes} crashes, {messages} messages, {awaited} batches that the disk need not have had");
    assert!(only.is_some() || count.is_some() || (crashes > 200 && messages > 1_000 && awaited > 200));
}
