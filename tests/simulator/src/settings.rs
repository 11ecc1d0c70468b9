//! The parameters of a seed: the number of shards, the size of the lanes, and the delays.

use engine::{Budget, Elsewhere, Limits, ListenerLimits};

use crate::chance::Chance;
use crate::disk::DiskSettings;

/// The parameters of a world.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of engines.
    pub shard_count: u16,
    /// Items that a data lane holds.
    pub data_capacity: usize,
    /// Items that a control lane holds.
    pub control_capacity: usize,
    /// The limits of every engine.
    pub limits: Limits,
    /// Maximum time until persisted data is durable.
    pub persist_ms_max: u64,
    /// Bytes that the network buffers before the client reads.
    pub link_bytes_max: usize,
    /// Whether a turn may drain only a part of a lane, sends may be partial, and so on. Otherwise a turn does everything
    /// that is possible.
    pub random: bool,
    /// Number of client identifiers.
    pub identity_count: usize,
    /// Random events before the world settles.
    pub step_count: u64,
    /// Percentage of large payloads.
    pub large_percent: u64,
    /// Percentage of client actions that end the connection, normally or not.
    pub churn_percent: u64,
    /// Of 1000 steps, how many stall a lane or a shard for a while.
    pub delay_permille: u64,
    /// Seconds that persistent sessions outlive their connections.
    pub session_expiry_s: u32,
    /// Whether the rest of the process takes so much memory that slow readers are shed, and nothing is refused.
    pub is_pressed: bool,
    /// Whether each CONNECT is a question, whose verdict comes late. The limits say so to the engine.
    pub judges: bool,
    /// The disks, if the broker has logs.
    pub disks: Option<DiskSettings>,
    /// Of 1000 steps, how many are a crash of the broker.
    pub crash_permille: u64,
}

impl Settings {
    /// Settings for a hand-made schedule: nothing is random.
    #[must_use]
    pub fn by_hand(shard_count: u16) -> Self {
        Self {
            shard_count,
            data_capacity: 4,
            control_capacity: 4,
            limits: limits(),
            persist_ms_max: 0,
            link_bytes_max: 1024 * 1024,
            random: false,
            identity_count: 0,
            step_count: 0,
            large_percent: 0,
            churn_percent: 0,
            delay_permille: 0,
            session_expiry_s: 1_000,
            is_pressed: false,
            judges: false,
            disks: None,
            crash_permille: 0,
        }
    }

    /// The same, where each CONNECT is a question.
    #[must_use]
    pub fn judged(mut self) -> Self {
        self.judges = true;
        self.limits.listeners = vec![ListenerLimits { judged: true, ..ListenerLimits::default() }];
        self
    }

    /// The same with a log for each shard, on disks that do everything at once.
    #[must_use]
    pub fn logged(mut self) -> Self {
        self.disks = Some(DiskSettings::default());
        self
    }

    /// The same with a log for each shard, on disks that are late and fail, and crashes of the broker.
    #[must_use]
    pub fn crashing(mut self, chance: &mut Chance) -> Self {
        let mut disks = DiskSettings::draw(chance);
        self.crash_permille = chance.pick(&[1, 2, 4, 10]);
        self.limits.acknowledge_written = chance.percent(20);
        if self.limits.acknowledge_written {
            // A disk that fails may drop what was written and acknowledged.
            disks.fail_permille = 0;
        }
        self.disks = Some(disks);
        self
    }

    /// Random settings.
    #[must_use]
    pub fn draw(chance: &mut Chance) -> Self {
        let mut limits = limits();
        limits.outbox_bytes_max = chance.pick(&[4 * 1024, 64 * 1024, 1024 * 1024]);
        limits.receive_maximum = chance.pick(&[2, 10, 100]);
        limits.inflight_max = chance.pick(&[2, 10, 100]);
        limits.topic_alias_outgoing_max = chance.pick(&[0, 2, 16]);
        limits.queue_qos0_offline = chance.percent(30);
        limits.replay_topics_max = chance.pick(&[1, 3, 4_096]);
        let large_percent = chance.pick(&[0, 2, 20]);
        let mut drawn = Self {
            shard_count: chance.pick(&[1, 2, 2, 3, 3, 4, 5]),
            data_capacity: chance.pick(&[1, 1, 2, 4]),
            control_capacity: chance.pick(&[1, 1, 2, 4]),
            limits,
            persist_ms_max: chance.pick(&[0, 3, 20]),
            link_bytes_max: chance.pick(&[512, 8 * 1024, 256 * 1024]),
            random: true,
            identity_count: chance.index(8) + 3,
            step_count: chance.between(600, 3_000),
            large_percent,
            churn_percent: chance.pick(&[0, 1, 3, 10]),
            delay_permille: chance.pick(&[0, 5, 20, 50]),
            session_expiry_s: chance.pick(&[2, 1_000, 1_000]),
            is_pressed: false,
            judges: false,
            disks: None,
            crash_permille: 0,
        };
        // Few units of work, so that everything that may be cut is cut.
        drawn.limits.step_work_max = chance.pick(&[1, 3, 10, 1_000]);
        // Of a copy, so that a seed keeps the run that it had before there was pressure.
        drawn.is_pressed = chance.clone().percent(40);
        if drawn.is_pressed {
            drawn.limits.memory_bytes_max = PRESSED_BYTES;
        }
        drawn
    }
}

/// The ceiling of a world that is pressed: more than it ever takes itself.
const PRESSED_BYTES: u64 = 1_000_000_000;

/// The use of memory by the rest of the process: above the first mark with the reserves of the others, and below the second one for as
/// long as the world takes less than 10 %. With so many connections, an outbox has the least share.
pub(crate) fn elsewhere(settings: &Settings) -> Elsewhere {
    let mut elsewhere = Elsewhere::default();
    if settings.is_pressed {
        elsewhere.budgets[Budget::Messages.index()] = PRESSED_BYTES * 7 / 10;
        elsewhere.connections = PRESSED_BYTES;
    }
    elsewhere
}

fn limits() -> Limits {
    Limits {
        packet_bytes_max: 64 * 1024,
        default_session_expiry_s: 1_000,
        // Few generation bits, so that identifiers repeat soon and stale ones must be recognised nevertheless.
        generation_bits: 2,
        ..Limits::default()
    }
}
