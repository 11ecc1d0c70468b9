//! Rules that change under traffic: from the moment that a shard has them, nothing is published or delivered by those before. Messages
//! wait in lanes, in queues and in flight meanwhile.

use engine::{LaneKind, SharedRules};
use rules::{Access, Kind, Origin, RulesBuilder};
use simulator::{Chance, ConnectOptions, Identity, Settings, World};
use wire::{ProtocolVersion, QoS};

use crate::stage::{subscribe, world_of};

const SEEDS: u64 = 24;
const ROUNDS: usize = 12;
const CLIENTS: usize = 4;
const LETTERS: [&str; 3] = ["a", "b", "c"];
const FILTERS: [&str; 4] = ["w/#", "w/+/a", "w/0/+", "w/1/b"];
const BACK: ConnectOptions = ConnectOptions { clean_start: false, will: None };

/// The letters at the end of the topics that may be read and written.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    read: [bool; 3],
    write: [bool; 3],
}

impl Allowed {
    fn draw(chance: &mut Chance) -> Self {
        let mut drawn = || [chance.percent(60), chance.percent(60), chance.percent(60)];
        Self { read: drawn(), write: drawn() }
    }

    fn rules(self) -> SharedRules {
        let mut builder = RulesBuilder::new(Access::Deny);
        let role = builder.role("everybody");
        for (kind, allowed) in [(Kind::Subscribe, self.read), (Kind::Publish, self.write)] {
            for (letter, _) in LETTERS.iter().zip(allowed).filter(|(_, is_allowed)| *is_allowed) {
                builder.add(role, kind, &format!("w/+/{letter}"), Origin::default()).expect("a good filter");
            }
        }
        builder.everybody(&["everybody"]).expect("the role exists");
        SharedRules::new(builder.build())
    }
}

/// A message that was published, and whether any rules since then have allowed it: a client that comes back may repeat it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    id: u32,
    letter: usize,
    was_allowed: bool,
}

struct Play {
    world: World,
    chance: Chance,
    shard_count: usize,
    clients: Vec<usize>,
    sent: Vec<Sent>,
    /// By client: the messages that were looked at.
    seen: Vec<usize>,
}

impl Play {
    fn start(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "rules");
        let shard_count = chance.pick(&[1_u16, 2, 3]);
        let mut settings = Settings::by_hand(shard_count);
        settings.limits.step_work_max = chance.pick(&[1, 10, 1_000]);
        settings.limits.denied_subscribe_accepted = true;
        settings.limits.inflight_max = 2;
        let mut world = world_of(settings);
        let shard_count = usize::from(shard_count);
        // Before 5.0 a client is not told what it may not publish.
        let client = |number| Identity::new(&format!("client-{number}"), ProtocolVersion::V3_1_1, 1_000);
        let clients: Vec<usize> = (0..CLIENTS).map(|number| world.add(client(number))).collect();
        for &client in &clients {
            world.connect(client, client % shard_count, BACK);
        }
        world.settle();
        Self { world, chance, shard_count, clients, sent: Vec::new(), seen: vec![0; CLIENTS] }
    }

    fn publish(&mut self, allowed: Allowed) {
        let number = self.chance.index(CLIENTS);
        let letter = self.chance.index(LETTERS.len());
        let client = self.clients[number];
        if !self.world.is_online(client) {
            return;
        }
        let qos = self.chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let topic = format!("w/{number}/{}", LETTERS[letter]);
        let id = self.world.publish(client, &topic, qos, self.chance.percent(20), 10);
        self.sent.push(Sent { id, letter, was_allowed: allowed.write[letter] });
    }

    /// Everything that reached a client since the last look may be read by it, and might be published.
    fn look(&mut self, allowed: Allowed) -> usize {
        let mut count = 0;
        for (number, &client) in self.clients.iter().enumerate() {
            let delivered = self.world.delivered(client);
            for &(id, _) in &delivered[self.seen[number]..] {
                let sent = self.sent.iter().find(|sent| sent.id == id).expect("it was published");
                assert!(allowed.read[sent.letter], "client {number} was sent {sent:?} under {allowed:?}");
                assert!(sent.was_allowed, "client {number} was sent {sent:?}");
                count += 1;
            }
            self.seen[number] = delivered.len();
        }
        count
    }

    /// Has every byte that was encoded read, so that what comes later was decided later.
    fn empty_sockets(&mut self) {
        for _ in 0..6 {
            for shard in 0..self.shard_count {
                self.world.turn(shard);
            }
            for &client in &self.clients {
                if self.world.is_online(client) {
                    self.world.read(client, usize::MAX);
                }
            }
        }
    }

    fn lanes(&mut self, is_held: bool) {
        self.world.release();
        for source in 0..self.shard_count {
            for target in (0..self.shard_count).filter(|&target| is_held && target != source) {
                self.world.hold(source, target, LaneKind::Data);
            }
        }
    }
}

#[test]
fn nothing_is_published_or_delivered_under_the_rules_before() {
    let mut delivered_count = 0;
    for seed in 0..SEEDS {
        let mut play = Play::start(seed);
        let mut allowed = Allowed { read: [true; 3], write: [true; 3] };
        for &client in &play.clients.clone() {
            let filter = play.chance.pick(&FILTERS);
            subscribe(&mut play.world, client, filter);
        }
        play.world.settle();
        for _ in 0..ROUNDS {
            let is_held = play.chance.percent(50);
            play.lanes(is_held);
            for _ in 0..8 {
                play.publish(allowed);
            }
            let leaves = play.clients[play.chance.index(CLIENTS)];
            if play.chance.percent(40) && play.world.is_online(leaves) {
                play.world.disconnect(leaves, false);
            }
            play.empty_sockets();
            play.look(allowed);
            allowed = Allowed::draw(&mut play.chance);
            for sent in &mut play.sent {
                sent.was_allowed |= allowed.write[sent.letter];
            }
            let rules = allowed.rules();
            for shard in 0..play.shard_count {
                play.world.change_rules(shard, Some(&rules));
            }
            for _ in 0..4 {
                play.publish(allowed);
            }
            play.world.release();
            for &client in &play.clients.clone() {
                if play.world.is_offline(client) {
                    let shard = play.chance.index(play.shard_count);
                    play.world.connect(client, shard, BACK);
                }
            }
            play.world.settle();
            delivered_count += play.look(allowed);
            assert!(play.world.failure().is_none(), "{:?}", play.world.failure());
        }
    }
    assert!(delivered_count > 500, "{delivered_count} were delivered after a change");
}
