//! The random script: the actions of clients, and the order of all events. The checks are in the oracle.

use wire::{ProtocolVersion, QoS, RetainHandling};

use crate::chance::Chance;
use crate::client::Subscribing;
use crate::identity::{ConnectOptions, Identity, Phase};
use crate::lanes::BOTH;
use crate::link::Served;
use crate::oracle::PAYLOAD_BYTES_MIN;
use crate::session::NEVER;
use crate::settings::Settings;
use crate::trace::{Failure, Report};
use crate::world::World;

/// Topics of each client, for plain subscriptions and for groups.
const TOPICS: u64 = 3;
const GROUPS: [&str; 5] =
    ["$share/a/g/+/0", "$share/a/g/+/0", "$share/b/g/#", "$share/a/g/0/1", "$share/c/g/+/+"];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// A session with this expiry does not end while its client connects, however slow a shard is.
const SESSION_LASTS_S: u32 = 100;
/// Steps between two audits.
const STEPS_PER_AUDIT: u64 = 64;

/// Plays one seed to its end.
///
/// # Errors
/// The first violated guarantee.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    play(seed, Settings::draw(&mut Chance::new(seed, "settings")))
}

/// Plays one seed as [`run`] does, but on 1 to `shards_max` shards.
///
/// # Errors
/// The first promise that was broken.
pub fn run_on_shards(seed: u64, shards_max: u16) -> Result<Report, Box<Failure>> {
    let mut settings = Settings::draw(&mut Chance::new(seed, "settings"));
    let count = Chance::new(seed, "shards").between(1, u64::from(shards_max));
    settings.shard_count = u16::try_from(count).unwrap_or(shards_max);
    play(seed, settings)
}

/// Plays one seed as [`run`] does, where each CONNECT waits for a verdict that comes late, and strangers name the identifiers of others.
///
/// # Errors
/// The first promise that was broken.
pub fn run_judged(seed: u64) -> Result<Report, Box<Failure>> {
    play(seed, Settings::draw(&mut Chance::new(seed, "settings")).judged())
}

/// Plays one seed on so many shards with logs, whose disks are late and fail, and which crash.
///
/// # Errors
/// The first promise that was broken.
pub fn run_with_crashes(seed: u64, shard_count: u16) -> Result<Report, Box<Failure>> {
    let mut settings = Settings::draw(&mut Chance::new(seed, "settings"));
    settings.shard_count = shard_count;
    play(seed, settings.crashing(&mut Chance::new(seed, "crashing")))
}

fn play(seed: u64, settings: Settings) -> Result<Report, Box<Failure>> {
    let mut world = World::new(seed, settings);
    world.draw_identities();
    for step in 0..world.settings.step_count {
        world.play();
        if step % STEPS_PER_AUDIT == 0 {
            world.check_ledgers();
        }
        if world.oracle.failure.is_some() {
            break;
        }
    }
    world.finish();
    world.failure().map_or_else(|| Ok(world.report()), |failure| Err(Box::new(failure)))
}

impl World {
    fn draw_identities(&mut self) {
        for number in 0..self.settings.identity_count {
            let version =
                if self.clients.percent(60) { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
            let persistent = self.clients.percent(65);
            let expiry_s = match (persistent, version) {
                (false, _) => 0,
                (true, ProtocolVersion::V5) => self.settings.session_expiry_s,
                (true, _) => self.settings.limits.default_session_expiry_s,
            };
            let mut identity = Identity::new(&format!("client-{number}"), version, expiry_s);
            identity.receive_maximum = self.clients.pick(&[1, 3, 100]);
            identity.group = self.clients.pick(&GROUPS).into();
            self.add(identity);
        }
    }

    /// Plays one random event.
    fn play(&mut self) {
        if self.schedule.percent(20) {
            let ms = self.schedule.between(1, 3);
            self.advance(ms);
        }
        self.crash_somehow();
        if self.schedule.below(1_000) < self.settings.delay_permille {
            self.delay_something();
        }
        match self.schedule.below(1_000) {
            0..500 => {
                let shard = self.schedule.index(self.shards.len());
                if self.stalled_shard != Some(shard) {
                    self.turn(shard);
                }
            }
            500..998 => {
                let client = self.schedule.index(self.identities.len());
                self.act(client);
            }
            _ => {
                let ms = self.schedule.between(100, 1_500);
                self.advance(ms);
            }
        }
    }

    /// Stalls a lane or a shard for a while, or releases another one.
    fn delay_something(&mut self) {
        let count = self.shards.len();
        match self.schedule.below(6) {
            0 => self.stalled_shard = Some(self.schedule.index(count)),
            1 => self.stalled_shard = None,
            2 if !self.held.is_empty() => {
                let at = self.schedule.index(self.held.len());
                self.held.swap_remove(at);
            }
            3 => self.release(),
            _ => {
                let (source, target) = (self.schedule.index(count), self.schedule.index(count));
                let lane = self.schedule.pick(&BOTH);
                self.hold(source, target, lane);
            }
        }
    }

    fn act(&mut self, client: usize) {
        let churn_percent = self.settings.churn_percent;
        match self.identities[client].phase {
            Phase::Offline => {
                if self.clients.percent(40) {
                    self.connect_somehow(client);
                }
            }
            Phase::Connecting => {
                let identity = &self.identities[client];
                // It would be unknown whether the will or clean start of an unanswered CONNECT took effect. With
                // short-lived sessions it would also be unknown whether the CONNECT began a new session in place of an
                // ended one.
                let lasts = identity.expiry_s >= SESSION_LASTS_S;
                let certain = identity.will.is_none()
                    && (identity.expiry_s == 0 || (lasts && !identity.connected_clean));
                if certain && self.clients.percent(churn_percent) {
                    let noticed = self.clients.percent(30);
                    self.vanish(client, noticed);
                    self.connect_somehow(client);
                } else {
                    self.read_somehow(client);
                }
            }
            Phase::Online => {
                if self.clients.percent(churn_percent) {
                    self.leave_somehow(client);
                } else if self.clients.percent(50) {
                    self.read_somehow(client);
                } else {
                    self.request_somehow(client);
                }
            }
        }
    }

    fn connect_somehow(&mut self, client: usize) {
        let shard = self.clients.index(self.shards.len());
        let links = &self.links;
        self.identities[client].rivals.retain(|&link| links[link].served != Served::Gone);
        let identity = &self.identities[client];
        // The effect of a clean start would be unknown if a late rival could undo it.
        let free = identity.rivals.is_empty();
        // Before 5.0 a clean session also ends with its connection.
        let may_clean_start = free && identity.is_v5() && self.clients.percent(10);
        let clean_start = identity.expiry_s == 0 || identity.must_clean_start || may_clean_start;
        let will = (free && self.clients.percent(30)).then(|| {
            let qos = self.clients.pick(&QOS);
            (qos, self.clients.percent(30), self.clients.pick(&[0, 0, 1]))
        });
        self.connect(client, shard, ConnectOptions { clean_start, will });
    }

    fn leave_somehow(&mut self, client: usize) {
        match self.clients.below(4) {
            0 => {
                let forget = self.clients.percent(15);
                self.disconnect(client, forget);
            }
            1 => self.vanish(client, true),
            _ => {
                let noticed = self.clients.percent(20);
                self.vanish(client, noticed);
                self.connect_somehow(client);
            }
        }
    }

    fn read_somehow(&mut self, client: usize) {
        if self.identities[client].stalled_until_ms > self.now_ms {
            return;
        }
        if self.clients.percent(2) {
            self.identities[client].stalled_until_ms = self.now_ms + self.clients.below(1_000);
        }
        let bytes_max = match self.clients.below(3) {
            0 => self.clients.index(200) + 1,
            1 => self.clients.index(8_000) + 1,
            _ => usize::MAX,
        };
        self.read(client, bytes_max);
    }

    fn request_somehow(&mut self, client: usize) {
        match self.clients.below(100) {
            0..20 => {
                let count = self.clients.index(3) + 1;
                let filters: Vec<(String, QoS)> = (0..count).map(|_| self.draw_filter(client)).collect();
                let retain_handling = match self.clients.below(10) {
                    0 => RetainHandling::SendIfNew,
                    1 => RetainHandling::DoNotSend,
                    _ => RetainHandling::SendAtSubscribe,
                };
                let subscribing: Vec<_> = filters
                    .iter()
                    .enumerate()
                    .filter(|(at, (filter, _))| filters[..*at].iter().all(|(other, _)| other != filter))
                    .map(|(_, (filter, qos))| Subscribing { filter, qos: *qos, retain_handling })
                    .collect();
                self.subscribe(client, &subscribing);
            }
            20..26 => {
                let intervals = self.oracle.sessions[client].intervals.iter();
                let held: Vec<String> = intervals
                    .filter(|interval| interval.until == NEVER)
                    .map(|interval| interval.filter.clone())
                    .collect();
                if !held.is_empty() {
                    let filter = held[self.clients.index(held.len())].clone();
                    self.unsubscribe(client, &filter);
                }
            }
            26..32 => self.ping(client),
            _ => {
                for _ in 0..self.clients.between(1, 4) {
                    self.publish_somehow(client);
                }
            }
        }
    }

    fn draw_filter(&mut self, client: usize) -> (String, QoS) {
        let writer = self.clients.index(self.identities.len());
        let topic = self.clients.below(TOPICS);
        let filter = match self.clients.below(9) {
            0..3 => format!("w/{writer}/{topic}"),
            3 => format!("w/{writer}/+"),
            4 => format!("w/+/{topic}"),
            5 => "w/#".into(),
            6 => "w/+/will".into(),
            7 => format!("w/{client}/{topic}"),
            _ => return (self.identities[client].group.clone(), QoS::ExactlyOnce),
        };
        (filter, self.clients.pick(&QOS))
    }

    /// Every client that is there publishes on each of its topics.
    pub(crate) fn publish_everywhere(&mut self) {
        for client in 0..self.identities.len() {
            for number in 0..TOPICS {
                for (class, qos) in
                    [("w", QoS::AtLeastOnce), ("w", QoS::ExactlyOnce), ("g", QoS::AtLeastOnce)]
                {
                    if self.identities[client].phase == Phase::Online && self.has_quota(client) {
                        let topic = format!("{class}/{client}/{number}");
                        self.publish(client, &topic, qos, false, PAYLOAD_BYTES_MIN);
                        self.settle();
                    }
                }
            }
        }
    }

    fn publish_somehow(&mut self, client: usize) {
        let qos = self.clients.pick(&QOS);
        if qos != QoS::AtMostOnce && !self.has_quota(client) {
            return;
        }
        let is_group = self.clients.percent(25);
        let number = self.clients.below(if is_group { 2 } else { TOPICS });
        let topic = format!("{}/{client}/{number}", if is_group { 'g' } else { 'w' });
        // A repeated QoS 1 message may replace a newer one, so only one topic retains QoS 1 messages.
        let may_retain = !is_group && (qos != QoS::AtLeastOnce || number == 0);
        let retain = may_retain && self.clients.percent(40);
        let bytes = if retain && self.clients.percent(5) {
            0
        } else if self.clients.percent(self.settings.large_percent) {
            self.clients.index(20_000) + PAYLOAD_BYTES_MIN
        } else {
            self.clients.index(200) + PAYLOAD_BYTES_MIN
        };
        self.publish(client, &topic, qos, retain, bytes);
    }
}
