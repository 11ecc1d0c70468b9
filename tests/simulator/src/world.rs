//! All parts of a simulated broker and its clients, and what holds them together: time, trace, verdict.
//! Knows no rule; shards, clients and the oracle do.

use engine::{Audit, Counters, DropReason, Entropy, Instant, LaneKind, Topology};

use crate::chance::Chance;
use crate::identity::{Identity, Phase};
use crate::lanes::Lanes;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::trace::{Failure, Report, Trace};

/// Virtual time at which a world begins, in milliseconds: not 0, so that nothing is relative to the origin by chance.
const START_MS: u64 = 1_000_000;

/// Shards, lanes, network, clients and the oracle.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    /// Deals clients and topics to shards.
    key: u64,
    pub(crate) settings: Settings,
    pub(crate) now_ms: u64,
    pub(crate) shards: Vec<Shard>,
    pub(crate) lanes: Lanes,
    /// Lanes whose receiver sees nothing for now: source, target, lane.
    pub(crate) held: Vec<(usize, usize, LaneKind)>,
    /// It has no turn for now.
    pub(crate) stalled_shard: Option<usize>,
    /// By shard and source: the announcements it has taken in, where the source can read it.
    pub(crate) board: Vec<Vec<u64>>,
    pub(crate) links: Vec<Link>,
    pub(crate) identities: Vec<Identity>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    /// Who has its turn, and when.
    pub(crate) schedule: Chance,
    /// How bytes of clients travel.
    pub(crate) network: Chance,
    /// What clients do.
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
        Self {
            seed,
            key,
            now_ms: START_MS,
            lanes: Lanes::new(count, settings.data_capacity, settings.control_capacity),
            held: Vec::new(),
            stalled_shard: None,
            board: vec![vec![0; count]; count],
            shards,
            links: Vec::new(),
            identities: Vec::new(),
            oracle: Oracle::default(),
            trace: Trace::new(),
            schedule: Chance::new(seed, "schedule"),
            network: Chance::new(seed, "network"),
            clients: Chance::new(seed, "clients"),
            settings,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_ms(self.now_ms)
    }

    pub(crate) fn note(&mut self, what: &'static str, numbers: [usize; 4]) -> u64 {
        self.trace.note(self.now_ms, what, numbers.map(|number| number as u64))
    }

    /// Lets time pass.
    pub fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Totals of one shard.
    #[must_use]
    pub fn counters(&self, shard: usize) -> &Counters {
        self.shards[shard].engine.counters()
    }

    /// The books of one shard.
    #[must_use]
    pub fn audit(&self, shard: usize) -> Audit {
        self.shards[shard].engine.audit()
    }

    /// Deliveries that all shards dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.shards.iter().map(|shard| shard.engine.counters().dropped[reason.index()]).sum()
    }

    /// Retained messages of one shard.
    #[must_use]
    pub fn retained_count(&self, shard: usize) -> usize {
        self.shards[shard].engine.retained_count()
    }

    /// The shard on which the session of a client identifier lives.
    #[must_use]
    pub fn home_of_client(&self, client_id: &str) -> usize {
        let dealt_by = Entropy(u128::from(self.key));
        let topology = Topology { own: 0, shard_count: self.settings.shard_count, key: dealt_by };
        usize::from(topology.home_of_client(client_id))
    }

    /// Clients there are.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.identities.len()
    }

    /// What an application received, in order: the message, and whether as a retained one.
    #[must_use]
    pub fn heard(&self, who: usize) -> &[(u32, bool)] {
        &self.identities[who].heard
    }

    /// Whether a client has read CONNACK and not left since.
    #[must_use]
    pub fn is_online(&self, who: usize) -> bool {
        self.identities[who].phase == Phase::Online
    }

    /// Whether a client has no connection.
    #[must_use]
    pub fn is_offline(&self, who: usize) -> bool {
        self.identities[who].phase == Phase::Offline
    }

    /// Whether a client waits for no answer.
    #[must_use]
    pub fn is_answered(&self, who: usize) -> bool {
        self.identities[who].is_idle()
    }

    /// From now on the receiver of a lane sees nothing of it, as if its sender were slow.
    pub fn hold(&mut self, source: usize, target: usize, lane: LaneKind) {
        self.held.push((source, target, lane));
    }

    /// No lane is held any more.
    pub fn release(&mut self) {
        self.held.clear();
    }

    /// Parcels in a lane.
    #[must_use]
    pub fn lane_len(&self, source: usize, target: usize, lane: LaneKind) -> usize {
        self.lanes.len(source, target, lane)
    }

    /// The promise that was broken, if one was.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let what = self.oracle.failure.clone()?;
        Some(Failure { seed: self.seed, what, last_events: self.trace.last_events() })
    }

    pub(crate) fn report(&self) -> Report {
        let sum = |of: fn(&Counters) -> u64| {
            self.shards.iter().map(|shard| of(shard.engine.counters())).sum::<u64>()
        };
        Report {
            digest: self.trace.digest(),
            event_count: self.trace.stamp(),
            message_count: self.oracle.messages.len() as u64,
            crossed_count: sum(|counters| counters.messages_forwarded),
            handed_over_count: sum(|counters| counters.handed_over),
            take_over_count: sum(|counters| counters.take_overs),
        }
    }

    /// Checks the books of every shard: each delivery owed is delivered, under way, or dropped for a reason.
    pub(crate) fn check_books(&mut self) {
        for (number, shard) in self.shards.iter().enumerate() {
            for session in shard.engine.audit().sessions {
                if !session.balances() {
                    self.oracle.fail(format!("the books of shard {number} do not balance: {session:?}"));
                }
            }
        }
    }
}
