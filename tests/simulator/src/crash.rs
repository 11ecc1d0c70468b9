//! The machine on which the broker runs: its disks and clocks. The process ends at any moment with all its shards; then it starts and
//! recovers, as the real one does: first the number of the start is durable, then each shard reads its log, then the engines go on, and
//! only then does anybody connect.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use engine::{Actions, Counters, DropReason, Instant, SessionRecord};
use journal::{Identity, LogIdentity, Recovered, Writer};

use crate::chance::Chance;
use crate::disk::{Crash, Disk, DiskSettings};
use crate::identity::Phase;
use crate::lanes::Lanes;
use crate::link::{ClientEnd, Served};
use crate::log::{JOURNAL, Place, ShardLog, read_log};
use crate::settings::Settings;
use crate::shard::Shard;
use crate::world::World;

/// The wall clock when a world begins, in milliseconds.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// The part of a world that outlives the process.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) disks: Vec<Disk>,
    pub(crate) disk_settings: DiskSettings,
    /// The two copies of the identity of the data directory.
    copies: [Vec<u8>; 2],
    /// By shard: the part of its log that the last crash had to leave.
    promised: Vec<u64>,
    pub(crate) wall_ms: u64,
    /// Draws what disks do and what crashes leave.
    pub(crate) chance: Chance,
    /// Steps in which another crash is likely.
    burst: u64,
    pub(crate) crash_count: u64,
    pub(crate) checkpoint_count: u64,
    pub(crate) poison_count: u64,
    /// Records that starts read.
    pub(crate) record_count: u64,
    /// Deliveries that earlier processes dropped, by reason.
    dropped: [u64; DropReason::ALL.len()],
    /// Messages that sessions had which ended in crashes.
    ended_count: u64,
    forwarded_count: u64,
    handed_over_count: u64,
    take_over_count: u64,
    /// Wills that a DISCONNECT on this link withdrew.
    withdrawn: Vec<(u32, usize)>,
}

impl Machine {
    pub(crate) fn new(seed: u64, settings: &Settings) -> Option<Self> {
        let disk_settings = settings.disks?;
        let mut disks = Vec::new();
        disks.resize_with(usize::from(settings.shard_count), Disk::default);
        Some(Self {
            disks,
            disk_settings,
            copies: [Vec::new(), Vec::new()],
            promised: Vec::new(),
            wall_ms: WALL_START_MS,
            chance: Chance::new(seed, "machine"),
            burst: 0,
            crash_count: 0,
            checkpoint_count: 0,
            poison_count: 0,
            record_count: 0,
            dropped: [0; DropReason::ALL.len()],
            ended_count: 0,
            forwarded_count: 0,
            handed_over_count: 0,
            take_over_count: 0,
            withdrawn: Vec::new(),
        })
    }

    /// Deliveries that earlier processes dropped for a reason.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()]
    }

    /// Messages that sessions had which ended in crashes: one of QoS 2 that was sent is nobody else's.
    pub(crate) const fn ended_count(&self) -> u64 {
        self.ended_count
    }

    /// Forwarded messages, connections handed over and sessions taken over, of earlier processes.
    pub(crate) const fn counts(&self) -> [u64; 3] {
        [self.forwarded_count, self.handed_over_count, self.take_over_count]
    }

    pub(crate) fn withdraw(&mut self, will: u32, link: usize) {
        self.withdrawn.push((will, link));
    }

    fn count(&mut self, counters: &Counters) {
        for (sum, count) in self.dropped.iter_mut().zip(counters.dropped) {
            *sum += count;
        }
        self.forwarded_count += counters.messages_forwarded;
        self.handed_over_count += counters.handed_over;
        self.take_over_count += counters.take_overs;
    }

    /// Makes the number of the next start durable. A crash meanwhile leaves a part of one copy, and the other one counts.
    fn begin_start(&mut self, key: u64, shard_count: u16) -> Result<Identity, String> {
        loop {
            let [a, b] = &self.copies;
            let found = Identity::newer(a, b).map_err(|fault| format!("{fault:?}"))?;
            let identity = match found {
                Some(found) if found.shard_count != shard_count => {
                    return Err(format!("{} shards wrote the logs, not {shard_count}", found.shard_count));
                }
                Some(found) => Identity { start: found.start + 1, ..found },
                None => Identity {
                    placement_key: u128::from(key).to_le_bytes(),
                    log: [7; 16],
                    shard_count,
                    generation: 1,
                    start: 1,
                },
            };
            let copy = &mut self.copies[usize::from(!identity.is_copy_a())];
            let bytes = identity.encode();
            // A start that is cut off before anything of it is durable is no start; the first one has no copy to go back to.
            if found.is_some() && self.chance.percent(5) {
                let kept = self.chance.index(bytes.len());
                copy.resize(bytes.len(), 0);
                copy[..kept].copy_from_slice(&bytes[..kept]);
                continue;
            }
            *copy = bytes;
            return Ok(identity);
        }
    }
}

impl World {
    /// Whether the broker has logs.
    pub(crate) fn is_logged(&self) -> bool {
        self.machine.is_some()
    }

    /// Crashes so far.
    #[must_use]
    pub fn crash_count(&self) -> u64 {
        self.machine.as_ref().map_or(0, |machine| machine.crash_count)
    }

    /// Whether the log of a shard has failed.
    #[must_use]
    pub fn is_poisoned(&self, shard: usize) -> bool {
        self.shards[shard].log.as_ref().is_some_and(ShardLog::is_poisoned)
    }

    /// Changes how the disks behave from now on.
    pub fn set_disks(&mut self, settings: DiskSettings) {
        if let Some(machine) = &mut self.machine {
            machine.disk_settings = settings;
        }
    }

    /// Everything that happened before this moment is durable on every shard.
    pub(crate) fn firm_at(&self) -> u64 {
        self.shards.iter().map(|shard| shard.log.as_ref().map_or(0, |log| log.firm_at)).min().unwrap_or(0)
    }

    /// The process ends, all shards at once, and starts again after some time on shards of this number. `downtime_ms` passes meanwhile,
    /// and the wall clock is set by `step_ms` beside.
    pub fn crash(&mut self, crash: Crash, downtime_ms: u64, step_ms: i64) {
        let at = self.note("crash", [usize::from(crash == Crash::Power), 0, 0, 0]);
        let firm_at = self.firm_at();
        for shard in 0..self.shards.len() {
            self.check_ledger(shard);
            let audit = self.shards[shard].engine.audit();
            let volatile = self.identities.iter().filter(|identity| identity.expiry_s == 0);
            let names: Vec<&str> = volatile.map(|identity| &*identity.name).collect();
            let ended = audit.sessions.iter().filter(|session| names.contains(&&*session.client_id));
            let ended_count = ended.map(|session| session.inflight + session.queued).sum::<u64>();
            if let Some(machine) = &mut self.machine {
                machine.ended_count += ended_count + audit.reassignments as u64;
                machine.count(self.shards[shard].engine.counters());
            }
        }
        self.lose_connections(at, firm_at);
        let logs = self.shards.iter().map(|shard| shard.log.as_ref());
        let promised = logs.map(|log| log.map_or(0, |log| log.promised_end(crash))).collect();
        let Some(machine) = &mut self.machine else { return };
        machine.promised = promised;
        machine.crash_count += 1;
        for disk in &mut machine.disks {
            disk.crash(crash, &mut machine.chance);
        }
        machine.wall_ms = (machine.wall_ms + downtime_ms).saturating_add_signed(step_ms);
        self.start();
        for (client, identity) in self.identities.iter_mut().enumerate() {
            let mut links = self.links.iter().filter(|link| link.client == Some(client));
            let knows_detached = links.all(|link| link.gone_at <= firm_at);
            identity.begin_after_crash(self.now_ms, knows_detached);
        }
        self.open();
    }

    /// The listeners open once every shard knows the interest of all. The process may end before.
    fn open(&mut self) {
        for _ in 0..OPENING_ROUNDS_MAX {
            if self.oracle.failure.is_some() || self.shards.iter().all(|shard| shard.engine.is_settled()) {
                return;
            }
            self.advance(1);
            for shard in 0..self.shards.len() {
                self.turn(shard);
            }
            let crash = self.draw_crash();
            if self.settings.crash_permille > 0
                && self.machine.as_mut().is_some_and(|machine| machine.chance.percent(OPENING_CRASH_PERCENT))
            {
                self.crash(crash, 1, 0);
                return;
            }
        }
        self.oracle.fail("the listeners never opened".into());
    }

    /// Clients read what is still on its way to them, and notice that the connection is gone.
    fn lose_connections(&mut self, at: u64, firm_at: u64) {
        let Some(machine) = &mut self.machine else { return };
        for link in &mut self.links {
            if link.served == Served::Gone {
                continue;
            }
            link.served = Served::Gone;
            link.has_crashed = true;
            link.inbound.clear();
            link.unconsumed.clear();
            link.dirty = false;
            if machine.chance.percent(50) {
                let kept = machine.chance.index(link.outbound.len() + 1);
                link.outbound.truncate(kept);
            }
        }
        // The log may not know that a will was withdrawn.
        for (will, link) in std::mem::take(&mut machine.withdrawn) {
            if self.links[link].gone_at > firm_at {
                self.oracle.message(will).forbidden = false;
            }
        }
        for client in 0..self.identities.len() {
            let Some(link) = self.identities[client].link else { continue };
            assert!(self.links[link].client_end == ClientEnd::Open);
            self.read(client, usize::MAX);
        }
        self.oracle.crashed(at, firm_at);
        let will_of = |identity: &crate::Identity| identity.crash_will;
        let wills: Vec<u32> = self.identities.iter().filter_map(will_of).collect();
        for will in wills {
            // It is due now, and published by the next start.
            let message = self.oracle.message(will);
            message.written_at = at;
            message.taken_at = at;
        }
        for identity in &mut self.identities {
            let doubtful = identity.received.iter().filter(|(_, at)| **at > firm_at);
            identity.doubtful.extend(doubtful.map(|(packet_id, _)| *packet_id));
            identity.crash_will = None;
            identity.rivals.clear();
            identity.withdrawn = None;
            assert!(identity.phase == Phase::Offline);
        }
    }

    /// Each engine is told which of its transfers the logs of the others have.
    fn tell_settled(&mut self) {
        for (source, at) in (0u16..).zip(0..self.shards.len()) {
            for (target, other) in (0u16..).zip(0..self.shards.len()).filter(|&(target, _)| target != source)
            {
                let upto = self.shards[other].engine.recovered_transfer(source);
                self.shards[at].engine.recover_settled(target, upto);
            }
        }
    }

    /// The process starts: it recovers, and clients can connect.
    pub(crate) fn start(&mut self) {
        let shard_count = self.settings.shard_count;
        let Some(machine) = &mut self.machine else { return };
        let identity = match machine.begin_start(self.key, shard_count) {
            Ok(identity) => identity,
            Err(reason) => {
                self.oracle.fail(format!("the start was refused: {reason}"));
                return;
            }
        };
        self.settings.limits.journal_start = NonZeroU32::new(identity.start);
        let count = usize::from(shard_count);
        self.lanes = Lanes::new(count, self.settings.data_capacity, self.settings.control_capacity);
        self.held.clear();
        self.stalled_shard = None;
        self.board = vec![vec![0; count]; count];
        self.shards.clear();
        let mut ends = Vec::new();
        for own in 0..shard_count {
            let mut shard = Shard::new(self.key, own, &self.settings, Instant::default());
            match recover(machine, &identity, own, &mut shard) {
                Ok(end) => ends.push(end),
                Err(reason) => {
                    self.oracle.fail(format!("shard {own} cannot be recovered: {reason}"));
                }
            }
            self.shards.push(shard);
        }
        if ends.len() < count {
            return;
        }
        let wall_ms = machine.wall_ms;
        let time_of = |end: &Recovered| {
            let passed_ms = if end.wall_ms == 0 { 0 } else { wall_ms.saturating_sub(end.wall_ms) };
            end.broker_ms + passed_ms
        };
        self.now_ms = ends.iter().map(time_of).max().unwrap_or(0);
        self.tell_settled();
        let now = self.now();
        for (shard, end) in self.shards.iter_mut().zip(ends) {
            // There is no connection that an action could be about.
            shard.engine.recovered(now, &mut Actions::new());
            shard.log = Some(ShardLog::new(Writer::new(JOURNAL, end, identity.start)));
        }
        self.note("started", [0, 0, 0, 0]);
    }
}

/// Reads the log of a shard into its engine.
fn recover(
    machine: &mut Machine,
    identity: &Identity,
    own: u16,
    shard: &mut Shard,
) -> Result<Recovered, String> {
    let Identity { log, shard_count, generation, .. } = *identity;
    let log = LogIdentity { log, shard: own, shard_count, generation };
    let disk = &mut machine.disks[usize::from(own)];
    let engine = &mut shard.engine;
    let mut record_count = 0;
    let (end, used) = read_log(disk, log, &mut |place, kind, body| {
        record_count += 1;
        let taken = match place {
            Place::Checkpoint(as_of) => engine.recover_object(as_of, kind, body),
            Place::Log(position) => engine.recover_at(position, kind, body),
        };
        taken.map_err(|fault| fault.to_string())
    })?;
    machine.record_count += record_count;
    if end.last_start >= identity.start {
        return Err(format!("start {} finds the log of start {}", identity.start, end.last_start));
    }
    let promised = machine.promised.get(usize::from(own)).copied().unwrap_or(0);
    if end.position < promised {
        return Err(format!("its log ends at {}, and {promised} was promised", end.position));
    }
    for (segment, used_bytes) in used {
        disk.cut(journal::File::Segment(segment), used_bytes);
    }
    Ok(end)
}

/// Steps after which a broker is restarted whose log has failed, on average.
const POISONED_STEPS: u64 = 100;
/// Rounds until every shard knows the interest of all.
const OPENING_ROUNDS_MAX: usize = 5_000;
/// Of 100 rounds before the listeners open, how many end in another crash.
const OPENING_CRASH_PERCENT: u64 = 2;
/// Milliseconds until disks have done everything.
const DISK_ROUNDS_MAX: u64 = 2_000;
/// Steps of a burst of crashes.
const BURST_STEPS: u64 = 30;
/// Files beside segments: a checkpoint, and one that is being made or was given up.
const FILES_BESIDE: usize = 2;
/// Segments that stay beside those that a checkpoint waits for: the one that is written, the next one, and the one in which the checkpoint began.
const SEGMENTS_BESIDE: u64 = 4;

impl World {
    /// Crashes, if it is drawn.
    pub(crate) fn crash_somehow(&mut self) {
        let permille = self.settings.crash_permille;
        let is_poisoned = (0..self.shards.len()).any(|shard| self.is_poisoned(shard));
        let Some(machine) = self.machine.as_mut().filter(|_| permille > 0) else { return };
        let Machine { chance, burst, .. } = machine;
        *burst = burst.saturating_sub(1);
        let is_burst = *burst > 0 && chance.below(BURST_STEPS) == 0;
        let is_over = is_poisoned && chance.below(POISONED_STEPS) == 0;
        if !is_burst && !is_over && chance.below(1_000) >= permille {
            return;
        }
        *burst = if chance.percent(30) { BURST_STEPS } else { 0 };
        let crash = self.draw_crash();
        let Some(machine) = &mut self.machine else { return };
        let chance = &mut machine.chance;
        let (short_ms, long_ms) = (chance.below(50), chance.below(5_000));
        let downtime_ms = chance.pick(&[0, short_ms, short_ms, long_ms]);
        let step_ms = chance.pick(&[0, 0, 0, -100, -10_000, 100, 1_500]);
        self.crash(crash, downtime_ms, step_ms);
    }

    /// A way to crash that leaves what was acknowledged.
    fn draw_crash(&mut self) -> Crash {
        let is_written = self.settings.limits.acknowledge_written;
        let Some(machine) = &mut self.machine else { return Crash::Process };
        if is_written || machine.chance.percent(30) { Crash::Process } else { Crash::Power }
    }

    /// The faults of the disks end, and logs that failed start again.
    pub(crate) fn heal(&mut self) {
        let Some(machine) = &mut self.machine else { return };
        machine.disk_settings = machine.disk_settings.healed();
        if (0..self.shards.len()).any(|shard| self.is_poisoned(shard)) {
            let crash = self.draw_crash();
            self.crash(crash, 0, 0);
        }
    }

    /// Everything is acknowledged and durable: the next start finds the sessions, their subscriptions and the retained messages as they are,
    /// and a message on each topic reaches all whom it should.
    pub(crate) fn judge_recovery(&mut self) {
        if self.oracle.failure.is_some() || !self.is_logged() {
            return;
        }
        // A will is published by the next start.
        let has_wills = self.identities.iter().any(|identity| identity.will.is_some());
        let before: Vec<Lasting> = self.shards.iter().map(|shard| lasting(shard, self.now())).collect();
        self.crash_at_rest();
        for (number, before) in before.iter().enumerate() {
            let after = lasting(&self.shards[number], self.now());
            let known = before.sessions.iter().zip(&after.sessions);
            if let Some((before, after)) = known.into_iter().find(|(before, after)| before != after) {
                self.oracle.fail(format!("shard {number} had\n{before:?}, and recovered\n{after:?}"));
            } else if before.sessions.len() != after.sessions.len() || (!has_wills && *before != after) {
                self.oracle.fail(format!("shard {number} had\n{before:?}, and recovered\n{after:?}"));
            }
        }
        self.settle();
        self.publish_everywhere();
        self.settle();
        self.judge_disks();
    }

    /// A crash when nothing happens.
    pub(crate) fn crash_at_rest(&mut self) {
        let crash = self.draw_crash();
        self.crash(crash, 1, 0);
    }

    /// Segments go behind checkpoints, and what waits for a disk is nothing.
    pub(crate) fn judge_disks(&mut self) {
        for _ in 0..DISK_ROUNDS_MAX {
            self.advance(1);
            for shard in 0..self.shards.len() {
                self.turn(shard);
            }
            let mut disks = self.machine.iter().flat_map(|machine| &machine.disks);
            // Between two slices of a checkpoint a disk is idle, and one that a fault ended is tried again after a pause.
            let is_done = |log: &ShardLog| log.is_at_rest() && !log.writer.is_checkpoint_due(u64::MAX);
            let mut logs = self.shards.iter().filter_map(|shard| shard.log.as_ref());
            if disks.all(Disk::is_idle) && logs.all(is_done) {
                break;
            }
        }
        for number in 0..self.shards.len() {
            let (Some(log), Some(machine)) = (&self.shards[number].log, &self.machine) else { return };
            let disk = &machine.disks[number];
            let checkpoint_bytes = log.writer.checkpoint().map_or(0, |checkpoint| checkpoint.bytes);
            let growth_bytes = JOURNAL.checkpoint_growth_bytes.max(checkpoint_bytes);
            // A start begins another segment, however short the last one is, so bytes count.
            let bytes_max = growth_bytes + SEGMENTS_BESIDE * JOURNAL.segment_bytes;
            let (bytes, others) = disk.used();
            if disk.is_idle() && !disk.has_failed && (bytes > bytes_max || others > FILES_BESIDE) {
                self.oracle.fail(format!(
                    "shard {number} keeps {bytes} bytes of segments, not {bytes_max}, and {others} other files"
                ));
            }
        }
    }
}

/// The state of a shard that its log has to lead to.
#[derive(PartialEq, Debug)]
struct Lasting {
    sessions: Vec<SessionRecord>,
    /// Deliveries that are due to each of them.
    due: BTreeMap<String, u64>,
    retained_count: usize,
}

fn lasting(shard: &Shard, now: Instant) -> Lasting {
    let (mut records, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = shard.engine.export(now, at, 64, &mut records);
    }
    records.sort_by(|a, b| a.client_id.cmp(&b.client_id));
    for record in &mut records {
        record.subscriptions.sort_by(|a, b| a.topic_filter.cmp(&b.topic_filter));
    }
    let names: Vec<&String> = records.iter().map(|record| &record.client_id).collect();
    let audits = shard.engine.audit().sessions.into_iter();
    let due = audits
        .filter(|audit| names.contains(&&audit.client_id))
        .map(|audit| (audit.client_id, audit.queued + audit.inflight))
        .collect();
    Lasting { sessions: records, due, retained_count: shard.engine.retained_count() }
}
