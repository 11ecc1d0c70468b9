//! A simulated broker with its clients, and their common time, trace and verdict.

use engine::{Audit, Counters, DropReason, Entropy, Instant, LaneKind, Topology};

use crate::chance::Chance;
use crate::crash::Machine;
use crate::identity::{Identity, Phase};
use crate::lanes::Lanes;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::trace::{Failure, Report, Trace};

/// Virtual time at which a world begins, in milliseconds. Not 0, so that a value relative to the origin is noticed.
const START_MS: u64 = 1_000_000;

/// Shards, lanes, network, clients and the oracle.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    /// The placement key: assigns clients and topics to shards.
    pub(crate) key: u64,
    pub(crate) settings: Settings,
    pub(crate) now_ms: u64,
    pub(crate) shards: Vec<Shard>,
    /// Disks and clocks, if the broker has logs.
    pub(crate) machine: Option<Machine>,
    pub(crate) lanes: Lanes,
    /// Lanes whose receiver sees nothing for now: source, target, lane.
    pub(crate) held: Vec<(usize, usize, LaneKind)>,
    /// The shard that has no turn for now.
    pub(crate) stalled_shard: Option<usize>,
    /// Indexed by shard and source: the announcements that the shard has applied, readable by the source.
    pub(crate) board: Vec<Vec<u64>>,
    pub(crate) links: Vec<Link>,
    pub(crate) identities: Vec<Identity>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    /// Draws the order of events.
    pub(crate) schedule: Chance,
    /// Draws how bytes of clients travel.
    pub(crate) network: Chance,
    /// Draws verdicts and strangers.
    pub(crate) verdicts: Chance,
    /// Draws the actions of clients.
    pub(crate) clients: Chance,
}

impl World {
    /// A broker without clients.
    #[must_use]
    pub fn new(seed: u64, settings: Settings) -> Self {
        let now = Instant::from_ms(START_MS);
        let key = Chance::new(seed, "key").draw();
        let shards: Vec<Shard> =
            (0..settings.shard_count).map(|own| Shard::new(key, own, &settings, now)).collect();
        let count = shards.len();
        let machine = Machine::new(seed, &settings);
        let mut world = Self {
            seed,
            key,
            now_ms: START_MS,
            lanes: Lanes::new(count, settings.data_capacity, settings.control_capacity),
            held: Vec::new(),
            stalled_shard: None,
            board: vec![vec![0; count]; count],
            shards,
            machine,
            links: Vec::new(),
            identities: Vec::new(),
            oracle: Oracle::default(),
            trace: Trace::new(),
            schedule: Chance::new(seed, "schedule"),
            network: Chance::new(seed, "network"),
            verdicts: Chance::new(seed, "verdicts"),
            clients: Chance::new(seed, "clients"),
            settings,
        };
        world.start();
        world
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_ms(self.now_ms)
    }

    pub(crate) fn note(&mut self, what: &'static str, numbers: [usize; 4]) -> u64 {
        self.trace.note(self.now_ms, what, numbers.map(|number| number as u64))
    }

    /// Advances the time.
    pub fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        if let Some(machine) = &mut self.machine {
            machine.wall_ms += ms;
        }
    }

    /// The counters of one shard.
    #[must_use]
    pub fn counters(&self, shard: usize) -> &Counters {
        self.shards[shard].engine.counters()
    }

    /// The audit of one shard.
    #[must_use]
    pub fn audit(&self, shard: usize) -> Audit {
        self.shards[shard].engine.audit()
    }

    /// Deliveries that all shards dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        let before = self.machine.as_ref().map_or(0, |machine| machine.dropped(reason));
        let now = self.shards.iter().map(|shard| shard.engine.counters().dropped[reason.index()]);
        before + now.sum::<u64>()
    }

    /// Retained messages of one shard.
    #[must_use]
    pub fn retained_count(&self, shard: usize) -> usize {
        self.shards[shard].engine.retained_count()
    }

    /// The home shard of a client identifier's session.
    #[must_use]
    pub fn home_of_client(&self, client_id: &str) -> usize {
        let dealt_by = Entropy(u128::from(self.key));
        let topology = Topology { own: 0, shard_count: self.settings.shard_count, key: dealt_by };
        usize::from(topology.home_of_client(client_id))
    }

    /// The number of clients.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.identities.len()
    }

    /// The messages delivered to an application, in order, and whether each was retained.
    #[must_use]
    pub fn delivered(&self, client: usize) -> &[(u32, bool)] {
        &self.identities[client].delivered
    }

    /// Whether a client has read CONNACK and not left since.
    #[must_use]
    pub fn is_online(&self, client: usize) -> bool {
        self.identities[client].phase == Phase::Online
    }

    /// Whether a client has no connection.
    #[must_use]
    pub fn is_offline(&self, client: usize) -> bool {
        self.identities[client].phase == Phase::Offline
    }

    /// Whether a client waits for no acknowledgement.
    #[must_use]
    pub fn is_answered(&self, client: usize) -> bool {
        self.identities[client].is_idle()
    }

    /// Stalls a lane: its receiver sees nothing of it from now on.
    pub fn hold(&mut self, source: usize, target: usize, lane: LaneKind) {
        self.held.push((source, target, lane));
    }

    /// Releases all lanes.
    pub fn release(&mut self) {
        self.held.clear();
    }

    /// Items in a lane.
    #[must_use]
    pub fn lane_len(&self, source: usize, target: usize, lane: LaneKind) -> usize {
        self.lanes.len(source, target, lane)
    }

    /// The violated guarantee, if any.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let what = self.oracle.failure.clone()?;
        Some(Failure { seed: self.seed, what, last_events: self.trace.last_events() })
    }

    pub(crate) fn report(&self) -> Report {
        let sum = |of: fn(&Counters) -> u64| {
            self.shards.iter().map(|shard| of(shard.engine.counters())).sum::<u64>()
        };
        let machine = self.machine.as_ref();
        let [forwarded, handed_over, take_overs] = machine.map_or([0; 3], Machine::counts);
        Report {
            digest: self.trace.digest(),
            event_count: self.trace.stamp(),
            message_count: self.oracle.messages.len() as u64,
            forwarded_count: forwarded + sum(|counters| counters.messages_forwarded),
            handed_over_count: handed_over + sum(|counters| counters.handed_over),
            take_over_count: take_overs + sum(|counters| counters.take_overs),
            shed_count: self.dropped(DropReason::Memory),
            crash_count: self.crash_count(),
            checkpoint_count: machine.map_or(0, |machine| machine.checkpoint_count),
            poison_count: machine.map_or(0, |machine| machine.poison_count),
            record_count: machine.map_or(0, |machine| machine.record_count),
        }
    }

    /// Checks the session ledgers of every shard: each required delivery is delivered, in transit, or dropped for a
    /// reason.
    pub(crate) fn check_ledgers(&mut self) {
        for shard in 0..self.shards.len() {
            self.check_ledger(shard);
        }
    }

    pub(crate) fn check_ledger(&mut self, shard: usize) {
        for session in self.shards[shard].engine.audit().sessions {
            if !session.balances() {
                self.oracle.fail(format!("a session ledger of shard {shard} does not balance: {session:?}"));
            }
        }
    }
}
