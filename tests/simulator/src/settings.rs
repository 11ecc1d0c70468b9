//! What differs from seed to seed: how many shards, how small the lanes, how slow everything.
//! Knows no event.

use engine::Limits;

use crate::chance::Chance;

/// The shape of a world.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Engines.
    pub shard_count: u16,
    /// Parcels that a data lane takes.
    pub data_capacity: usize,
    /// Parcels that a control lane takes.
    pub control_capacity: usize,
    /// Of every engine.
    pub limits: Limits,
    /// Longest time until what is persisted is durable.
    pub persist_ms_max: u64,
    /// Bytes towards a client that the network takes before the client reads.
    pub link_bytes_max: usize,
    /// Whether a turn may see only what lay in a lane when it began to drain it, sends may be partial, and the like;
    /// otherwise everything that can be done in a turn is done.
    pub random: bool,
    /// Client identifiers.
    pub identity_count: usize,
    /// Things that happen before the world is left to settle.
    pub step_count: u64,
    /// How many of 100 payloads are large.
    pub large_percent: u64,
    /// How many of 100 actions of a client end its connection, for better or worse.
    pub churn_percent: u64,
    /// How many of 1000 steps begin a time in which a lane delivers nothing, or a shard has no turn.
    pub delay_permille: u64,
    /// Seconds that the sessions of clients outlive their connections, those that do.
    pub session_expiry_s: u32,
}

impl Settings {
    /// For a test that makes its schedule itself: nothing is random.
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
        }
    }

    /// As `chance` wants it.
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
        Self {
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
        }
    }
}

fn limits() -> Limits {
    Limits {
        packet_bytes_max: 64 * 1024,
        default_session_expiry_s: 1_000,
        // Identities that come again soon: what is stale must be told from what is not all the same.
        generation_bits: 2,
        ..Limits::default()
    }
}
