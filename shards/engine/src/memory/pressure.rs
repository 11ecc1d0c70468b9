//! The budgets of memory: which kinds share one, how much of it is taken, and what may still grow.
//!
//! Every budget has a reserve, a share of the ceiling that the others cannot take. A budget may grow past its reserve while all that is
//! taken, each unused reserve included, is below the second mark. So a store full of retained messages still lets clients connect,
//! subscribe and delete. And nothing that is refused can lift the total above that mark: at it, a budget grows inside its reserve only,
//! which counts already.
//!
//! The ceiling is the process's. Each shard knows what all shards take, so that one may use what others do not.

use crate::limits::Limits;
use crate::log_room::LogRoom;

use super::{MemoryKind, MemoryUse};

/// Kinds that share a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// Connections, sessions, their wills and their authentication.
    Clients,
    /// Subscriptions and topic aliases.
    Subscriptions,
    /// Retained messages.
    Retained,
    /// Messages on their way: outboxes, queues, lanes and partial packets.
    Messages,
}

impl Budget {
    /// Every budget, in the order of [`Budget::index`].
    pub const ALL: [Self; 4] = [Self::Clients, Self::Subscriptions, Self::Retained, Self::Messages];

    /// Position in [`Budget::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The share of the ceiling that no other budget may take, in percent.
    const fn reserve_percent(self) -> u64 {
        match self {
            Self::Clients | Self::Subscriptions | Self::Retained => 5,
            Self::Messages => 10,
        }
    }
}

impl MemoryKind {
    /// The budget that it belongs to.
    #[must_use]
    pub const fn budget(self) -> Budget {
        match self {
            Self::Connections | Self::Authentications | Self::Sessions | Self::Wills => Budget::Clients,
            Self::Subscriptions | Self::AliasesIn | Self::AliasesOut => Budget::Subscriptions,
            Self::Retained => Budget::Retained,
            Self::Outboxes | Self::PartialPackets | Self::Queues | Self::Lanes => Budget::Messages,
        }
    }
}

/// Where memory stands between its marks. A mark that was crossed is left 5 % of the ceiling below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum MemoryLevel {
    /// Below both marks.
    #[default]
    Normal,
    /// Above 80 %: outboxes may take less, and the largest lose QoS 0.
    Shedding,
    /// Above 95 %: what would take more is refused.
    Refusing,
}

impl MemoryLevel {
    /// The mark below this level, in percent of the ceiling.
    const fn mark_percent(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::Shedding => 80,
            Self::Refusing => 95,
        }
    }

    /// The level at `committed` of `ceiling` bytes, after this one.
    fn next(self, committed: u64, ceiling: u64) -> Self {
        let percent = committed.saturating_mul(100) / ceiling;
        let is_above =
            |level: Self| percent >= level.mark_percent().saturating_sub(self.slack_percent(level));
        if is_above(Self::Refusing) {
            Self::Refusing
        } else if is_above(Self::Shedding) {
            Self::Shedding
        } else {
            Self::Normal
        }
    }

    /// How far below its mark `level` begins, seen from this one.
    fn slack_percent(self, level: Self) -> u64 {
        if self >= level { 5 } else { 0 }
    }
}

/// The use of memory by the other shards of the process.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Elsewhere {
    /// By [`Budget::index`], in bytes.
    pub budgets: [u64; Budget::ALL.len()],
    /// Their connections.
    pub connections: u64,
}

/// Bytes that may come in before memory is weighed again: on the way of a message it is not weighed each time.
const UNWEIGHED_BYTES_MAX: u64 = 256 * 1024;
/// The part of the ceiling that they may be at most.
const UNWEIGHED_PART: u64 = 256;
/// An outbox may hold this much however short memory is.
const OUTBOX_BYTES_MIN: u64 = 1024;
/// The shares of the ceiling that all outboxes together may grow to above the first and above the second mark, in percent.
const OUTBOXES_PERCENT: [u64; 2] = [40, 10];

/// **Lives on:** every shard. Its decisions stand until memory is weighed again.
#[derive(Debug)]
pub(crate) struct Pressure {
    elsewhere: Elsewhere,
    level: MemoryLevel,
    /// By [`Budget::index`]: it may not grow.
    refuses: [bool; Budget::ALL.len()],
    log_room: LogRoom,
    /// Retained messages or those on their way may not grow, or the log is short of room: all that a publish has to ask on its way.
    holds_messages: bool,
    /// Whether the first mark is passed and messages are beyond their reserve.
    sheds: bool,
    outbox_bytes_max: u64,
    unweighed_bytes: u64,
    unweighed_bytes_max: u64,
    /// Bytes of messages above which memory is to be weighed.
    message_bytes_unweighed: u64,
    /// All that is taken in the process, when it was weighed last.
    used_bytes: u64,
}

impl Pressure {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            elsewhere: Elsewhere::default(),
            level: MemoryLevel::Normal,
            refuses: [false; Budget::ALL.len()],
            log_room: LogRoom::Free,
            holds_messages: false,
            sheds: false,
            outbox_bytes_max: limits.outbox_bytes_max.into(),
            unweighed_bytes: 0,
            message_bytes_unweighed: 0,
            unweighed_bytes_max: match limits.memory_bytes_max {
                0 => u64::MAX,
                ceiling => UNWEIGHED_BYTES_MAX.min(ceiling / UNWEIGHED_PART),
            },
            used_bytes: 0,
        }
    }

    /// Takes the use of memory by the other shards. Returns whether it has changed.
    pub(crate) fn set_elsewhere(&mut self, elsewhere: Elsewhere) -> bool {
        core::mem::replace(&mut self.elsewhere, elsewhere) != elsewhere
    }

    pub(crate) fn level(&self) -> MemoryLevel {
        self.level
    }

    /// Whether outboxes are to lose what they hold beyond their share.
    pub(crate) fn sheds(&self) -> bool {
        self.sheds
    }

    /// Bytes taken in the process when memory was weighed last.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Whether a budget may not grow.
    pub(crate) fn refuses(&self, budget: Budget) -> bool {
        self.refuses[budget.index()]
    }

    /// Whether anything keeps messages from being taken: all that a publish has to ask on its way.
    #[inline]
    pub(crate) fn holds_messages(&self) -> bool {
        self.holds_messages
    }

    /// How much the log takes.
    pub(crate) fn log_room(&self) -> LogRoom {
        self.log_room
    }

    /// Takes how much the log takes from now on.
    ///
    /// # Panics
    /// If a log works again that has failed.
    pub(crate) fn set_log_room(&mut self, room: LogRoom) {
        assert!(self.log_room != LogRoom::Failed || room == LogRoom::Failed);
        self.log_room = room;
        self.note_holds();
    }

    /// Whether packets that wait for memory or for the log may be taken.
    pub(crate) fn may_resume(&self) -> bool {
        !self.refuses(Budget::Messages) && !self.log_room.holds()
    }

    fn note_holds(&mut self) {
        let refuses = self.refuses(Budget::Retained) || self.refuses(Budget::Messages);
        self.holds_messages = refuses || self.log_room.holds();
    }

    /// Bytes up to which an outbox takes messages: less than its limit above the marks.
    pub(crate) fn outbox_bytes_max(&self) -> u64 {
        self.outbox_bytes_max
    }

    /// Counts bytes that came in. Returns whether memory is to be weighed.
    pub(crate) fn count(&mut self, bytes: u64) -> bool {
        self.unweighed_bytes += bytes;
        self.unweighed_bytes > self.unweighed_bytes_max
    }

    /// Bytes of messages above which memory is to be weighed: so many more than when it was weighed last.
    #[inline]
    pub(crate) fn message_bytes_unweighed(&self) -> u64 {
        self.message_bytes_unweighed
    }

    /// Memory was weighed while messages took so many bytes.
    pub(crate) fn set_message_bytes(&mut self, bytes: u64) {
        self.message_bytes_unweighed = bytes.saturating_add(self.unweighed_bytes_max);
    }

    /// Decides anew, by the bytes that this shard takes. Returns the level before, if it has changed.
    pub(crate) fn weigh(
        &mut self,
        limits: &Limits,
        own: &MemoryUse,
        connections: u32,
    ) -> Option<MemoryLevel> {
        self.unweighed_bytes = 0;
        // No machine has as much, and a share of it in percent can be computed.
        let ceiling = limits.memory_bytes_max.min(u64::MAX / 1_024);
        let mut used = self.elsewhere.budgets;
        for kind in MemoryKind::ALL {
            used[kind.budget().index()] += own.of_kind(kind);
        }
        self.used_bytes = used.iter().sum();
        if ceiling == 0 {
            return None;
        }
        let reserves = Budget::ALL.map(|budget| ceiling * budget.reserve_percent() / 100);
        let committed = used.iter().zip(reserves).map(|(&used, reserve)| used.max(reserve)).sum::<u64>();
        let before = self.level;
        self.level = before.next(committed, ceiling);
        // Without slack: room that was made serves at once.
        let is_full = MemoryLevel::Normal.next(committed, ceiling) == MemoryLevel::Refusing;
        for budget in Budget::ALL {
            let at = budget.index();
            self.refuses[at] = is_full && used[at] >= reserves[at];
        }
        self.note_holds();
        let messages = Budget::Messages.index();
        self.sheds = self.level >= MemoryLevel::Shedding && used[messages] >= reserves[messages];
        let share = |percent: u64| {
            let each = ceiling * percent / 100 / (u64::from(connections) + self.elsewhere.connections).max(1);
            each.max(OUTBOX_BYTES_MIN).min(limits.outbox_bytes_max.into())
        };
        self.outbox_bytes_max = match self.level {
            MemoryLevel::Shedding if self.sheds => share(OUTBOXES_PERCENT[0]),
            MemoryLevel::Refusing if self.sheds => share(OUTBOXES_PERCENT[1]),
            MemoryLevel::Normal | MemoryLevel::Shedding | MemoryLevel::Refusing => {
                limits.outbox_bytes_max.into()
            }
        };
        assert!(!self.sheds || self.outbox_bytes_max <= limits.outbox_bytes_max.into());
        assert!(self.level == MemoryLevel::Refusing || !self.refuses.contains(&true));
        (before != self.level).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const CEILING: u64 = 1_000_000;

    fn weighed(pressure: &mut Pressure, kinds: &[(MemoryKind, u64)]) -> (MemoryLevel, Vec<Budget>) {
        let limits = Limits { memory_bytes_max: CEILING, ..Limits::default() };
        pressure.weigh(&limits, &MemoryUse::of(kinds.iter().copied()), 10);
        let refused = Budget::ALL.into_iter().filter(|&budget| pressure.refuses(budget));
        (pressure.level(), refused.collect())
    }

    #[test]
    fn no_budget_takes_the_reserve_of_another() {
        use MemoryLevel::{Normal, Refusing, Shedding};
        let mut pressure = Pressure::new(&Limits::default());
        let pressure = &mut pressure;
        // The reserves of the others are 20 %, and 15 % for messages.
        let retained = |bytes| [(MemoryKind::Retained, bytes)];
        assert_eq!(weighed(pressure, &retained(599_999)), (Normal, vec![]));
        assert_eq!(weighed(pressure, &retained(600_000)), (Shedding, vec![]));
        assert_eq!(weighed(pressure, &retained(749_999)), (Shedding, vec![]));
        assert_eq!(weighed(pressure, &retained(750_000)), (Refusing, vec![Budget::Retained]));
        assert!(!pressure.sheds, "messages are within their reserve");
        let both = [(MemoryKind::Retained, 750_000), (MemoryKind::Sessions, 50_001)];
        assert_eq!(weighed(pressure, &both), (Refusing, vec![Budget::Clients, Budget::Retained]));
    }

    #[test]
    fn a_mark_is_left_five_percent_below_it() {
        use MemoryLevel::{Normal, Refusing, Shedding};
        let mut pressure = Pressure::new(&Limits::default());
        let steps = [
            (649_999, Normal),
            (650_000, Shedding),
            (610_000, Shedding),
            (599_999, Normal),
            (800_000, Refusing),
            (750_000, Refusing),
            (749_999, Shedding),
            (790_000, Shedding),
            (0, Normal),
        ];
        for (bytes, level) in steps {
            let queues = [(MemoryKind::Queues, bytes)];
            assert_eq!(weighed(&mut pressure, &queues).0, level, "{bytes}");
        }
    }

    #[test]
    fn other_shards_count_and_outboxes_share_what_is_left() {
        let mut pressure = Pressure::new(&Limits::default());
        assert_eq!(pressure.outbox_bytes_max(), 1_048_576);
        pressure.set_elsewhere(Elsewhere { budgets: [0, 0, 0, 700_000], connections: 30 });
        assert_eq!(weighed(&mut pressure, &[(MemoryKind::Outboxes, 1)]).0, MemoryLevel::Shedding);
        assert_eq!(pressure.outbox_bytes_max(), 10_000, "40 % among 40 connections");
        weighed(&mut pressure, &[(MemoryKind::Outboxes, 100_000)]);
        assert_eq!(pressure.outbox_bytes_max(), 2_500);
        assert_eq!(pressure.used_bytes(), 800_000);
    }
}
