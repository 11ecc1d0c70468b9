//! The meters of clients: a bucket of messages and one of bytes for each connection whose listener limits its rates.
//!
//! Invariant: a connection without a limit has no meter and costs nothing.

use alloc::boxed::Box;

use super::debts::{Debt, Debtor, Debts};
use crate::base::heap;
use crate::base::sparse::Sparse;
use crate::base::time::Instant;
use crate::base::timer_wheel::TimerId;
use crate::limits::{OnRate, Rates};

/// Tokens are counted in thousandths, so that a rate of one a second gives one each millisecond.
const WHOLE: i64 = 1_000;
/// The longest debt with which the rest is taken of what a client sent before it left.
const DEBT_OF_LEAVER_MS_MAX: u64 = 60_000;
/// Between two looks whether the peer of a paused connection has left.
const LOOK_MS: u64 = 1_000;

/// A token bucket. Its level may be below zero: a packet that is longer than the bucket is paid afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bucket {
    /// Tokens a second, or thousandths a millisecond; 0: no limit.
    rate: u32,
    /// Thousandths of a token.
    level: i64,
    level_max: i64,
}

impl Bucket {
    fn full(rate: u32, burst_s: u16) -> Self {
        let level_max = i64::from(rate) * i64::from(burst_s) * WHOLE;
        Self { rate, level: level_max, level_max }
    }

    fn refill(&mut self, passed_ms: u64) {
        let passed_ms = i64::try_from(passed_ms).unwrap_or(i64::MAX);
        let gained = passed_ms.saturating_mul(i64::from(self.rate));
        self.level = self.level.saturating_add(gained).min(self.level_max);
    }

    /// Milliseconds until a whole token is there.
    fn wait_ms(&self) -> u64 {
        let missing = WHOLE - self.level;
        if self.rate == 0 || missing <= 0 {
            return 0;
        }
        u64::try_from(missing).unwrap_or(0).div_ceil(u64::from(self.rate))
    }

    /// Milliseconds until it is full.
    fn full_ms(&self) -> u64 {
        if self.rate == 0 {
            return 0;
        }
        u64::try_from(self.level_max.saturating_sub(self.level)).unwrap_or(0).div_ceil(u64::from(self.rate))
    }

    fn spend(&mut self, tokens: u32) {
        if self.rate > 0 {
            self.level = self.level.saturating_sub(i64::from(tokens) * WHOLE);
        }
    }
}

/// **Lives on:** a connection whose listener limits what its clients publish.
#[derive(Debug)]
pub(super) struct Meter {
    messages: Bucket,
    bytes: Bucket,
    filled_at: Instant,
    on_rate: OnRate,
    debtor: Debtor,
    /// It goes on with empty buckets that another identifier has left. They are waited for, whatever [`OnRate`] says.
    pays_for_another: bool,
    /// The peer has left, so that nothing is waited for any more.
    is_over: bool,
    /// When it was looked last whether the peer has left.
    looked_at: Instant,
    /// The end of the pause, while there is one.
    paused_until: Instant,
    /// Packets of the connection before the one that was charged last.
    charged: Option<u32>,
    /// Set while the connection is paused.
    timer: Option<TimerId>,
}

impl Meter {
    /// The meter of a client that comes, which goes on with the buckets that it left.
    /// `left` has these, and whether its own identifier left them.
    pub(super) fn new(rates: &Rates, now: Instant, debtor: Debtor, left: Option<(Debt, bool)>) -> Self {
        let mut meter = Self {
            messages: Bucket::full(rates.messages, rates.burst_s),
            bytes: Bucket::full(rates.bytes, rates.burst_s),
            filled_at: now,
            on_rate: rates.on_rate,
            debtor,
            pays_for_another: left.is_some_and(|(_, is_own)| !is_own),
            is_over: false,
            looked_at: now,
            paused_until: now,
            charged: None,
            timer: None,
        };
        if let Some((left, _)) = left {
            // It may have left them on a listener with other limits.
            let ((messages, bytes), at) = left.levels();
            meter.messages.level = messages.min(meter.messages.level_max);
            meter.bytes.level = bytes.min(meter.bytes.level_max);
            meter.filled_at = at;
            meter.fill(now);
        }
        meter
    }

    /// The buckets of the client that leaves; `None` if they are full.
    pub(super) fn left(&mut self, now: Instant) -> Option<(Debtor, Debt)> {
        self.fill(now);
        let full_ms = self.messages.full_ms().max(self.bytes.full_ms());
        let debt = Debt::new((self.messages.level, self.bytes.level), now, now.plus_ms(full_ms));
        (full_ms > 0).then_some((self.debtor, debt))
    }

    fn fill(&mut self, now: Instant) {
        let passed_ms = self.filled_at.ms_until(now);
        self.filled_at = now;
        self.messages.refill(passed_ms);
        self.bytes.refill(passed_ms);
    }

    /// The peer has left: what it sent before is charged and not waited for, so that its end is not kept up. If it owes too much for
    /// that, it is closed instead.
    pub(super) fn end_waiting(&mut self) {
        self.is_over = true;
    }

    /// The answer to a client that has to wait.
    pub(super) fn on_rate(&self) -> OnRate {
        if self.is_over {
            OnRate::Disconnect
        } else if self.pays_for_another {
            OnRate::Pause
        } else {
            self.on_rate
        }
    }

    /// Milliseconds until a PUBLISH may come; 0: now.
    pub(super) fn wait_ms(&mut self, now: Instant) -> u64 {
        self.fill(now);
        let wait_ms = self.messages.wait_ms().max(self.bytes.wait_ms());
        if self.is_over && wait_ms <= DEBT_OF_LEAVER_MS_MAX {
            return 0;
        }
        self.pays_for_another &= wait_ms > 0;
        wait_ms
    }

    /// Whether the packet was charged that is the next after so many. The count stays at its maximum; from there on a packet that is
    /// offered twice is charged twice.
    pub(super) fn has_charged(&self, packets_before: u32) -> bool {
        self.charged == Some(packets_before) && packets_before < u32::MAX
    }

    /// Charges the packet that is the next after so many.
    pub(super) fn charge(&mut self, packets_before: u32, packet_bytes: u32) {
        assert!(!self.has_charged(packets_before));
        self.charged = Some(packets_before);
        self.messages.spend(1);
        self.bytes.spend(packet_bytes);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.timer.is_some()
    }

    /// Begins a pause of so long. Returns when its timer has to be due: earlier, if it is time to look whether the peer has left.
    pub(super) fn begin_pause(&mut self, now: Instant, wait_ms: u64) -> Instant {
        assert!(self.timer.is_none());
        self.paused_until = now.plus_ms(wait_ms);
        self.next_due(now)
    }

    fn next_due(&self, now: Instant) -> Instant {
        self.paused_until.min(self.looked_at.plus_ms(LOOK_MS).max(now))
    }

    /// The timer of a pause.
    pub(super) fn set_timer(&mut self, timer: TimerId) {
        assert!(self.timer.is_none());
        self.timer = Some(timer);
    }

    /// The timer was due. Returns when it has to be due again, if the pause goes on, and whether to look for the peer's end.
    pub(super) fn on_timer(&mut self, now: Instant) -> (Option<Instant>, bool) {
        let was_set = self.timer.take();
        assert!(was_set.is_some());
        let looks = now >= self.looked_at.plus_ms(LOOK_MS);
        if looks {
            self.looked_at = now;
        }
        ((now < self.paused_until).then(|| self.next_due(now)), looks)
    }

    /// Ends a pause. Returns its timer, if there was one.
    pub(super) fn end_pause(&mut self) -> Option<TimerId> {
        self.timer.take()
    }

    /// # Panics
    /// If a bucket holds more than it can.
    pub(super) fn check(&self) {
        assert!(self.messages.level <= self.messages.level_max);
        assert!(self.bytes.level <= self.bytes.level_max);
    }
}

/// **Lives on:** every shard. **Sees:** the connections whose rates are limited.
#[derive(Debug, Default)]
pub(super) struct Meters {
    /// By slot of the connection.
    by_slot: Sparse<Box<Meter>>,
    /// Of clients that have left.
    debts: Debts,
    /// By slot of the connection, until its CONNECT: numbers that stand for addresses.
    addresses: Sparse<u64>,
}

impl Meters {
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Meter> {
        self.by_slot.get_mut(slot).map(|meter| &mut **meter)
    }

    /// Returns the meter that was there before.
    pub(super) fn insert(&mut self, slot: u32, meter: Meter) -> Option<Box<Meter>> {
        self.by_slot.set(slot, Box::new(meter))
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Box<Meter>> {
        self.by_slot.take(slot)
    }

    pub(super) fn debts(&mut self) -> &mut Debts {
        &mut self.debts
    }

    /// Keeps the address of a connection in place of the one before.
    pub(super) fn set_address(&mut self, slot: u32, address: u64) {
        let _before = self.addresses.set(slot, address);
    }

    pub(super) fn take_address(&mut self, slot: u32) -> Option<u64> {
        self.addresses.take(slot)
    }

    /// The slots of connections whose address is kept, for an audit.
    pub(super) fn addressed_slots(&self) -> impl Iterator<Item = u32> {
        self.addresses.iter().map(|(slot, _)| slot)
    }

    /// # Panics
    /// If the buckets of clients that have left are not what they should be.
    pub(super) fn check_debts(&self) {
        self.debts.check();
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let meters = self.by_slot.bytes_held() + self.by_slot.len() as u64 * heap::block(size_of::<Meter>());
        meters + self.debts.memory_bytes() + self.addresses.bytes_held()
    }

    /// Meters, for an audit.
    pub(super) fn count(&self) -> usize {
        self.by_slot.len()
    }

    /// Timers that are set, for an audit.
    pub(super) fn timer_count(&self) -> usize {
        self.iter().filter(|(_, meter)| meter.is_paused()).count()
    }

    /// Meters by the slots of their connections, for an audit.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Meter)> {
        self.by_slot.iter().map(|(slot, meter)| (slot, &**meter))
    }
}

/// The answer of a meter about the packet that arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metered {
    /// It may come.
    Go,
    /// The connection is paused until it may.
    Wait,
    /// The client is to be closed.
    Exceeded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::full(3, 2);
        for _ in 0..6 {
            assert_eq!(bucket.wait_ms(), 0);
            bucket.spend(1);
        }
        assert_eq!(bucket.wait_ms(), 334);
        bucket.refill(333);
        assert_eq!(bucket.wait_ms(), 1);
        bucket.refill(1);
        assert_eq!(bucket.wait_ms(), 0);
        bucket.refill(u64::MAX);
        assert_eq!(bucket.level, 6 * WHOLE);
    }

    #[test]
    fn more_than_a_bucket_holds_is_paid_afterwards() {
        let mut bucket = Bucket::full(10, 1);
        bucket.spend(1_010);
        assert_eq!(bucket.wait_ms(), 100_100);
        bucket.refill(100_100);
        assert_eq!(bucket.wait_ms(), 0);
    }

    #[test]
    fn a_bucket_without_a_rate_is_never_empty() {
        let mut bucket = Bucket::full(0, 2);
        bucket.spend(u32::MAX);
        assert_eq!(bucket.wait_ms(), 0);
        let mut fastest = Bucket::full(u32::MAX, u16::MAX);
        fastest.spend(u32::MAX);
        fastest.refill(u64::MAX);
        assert_eq!(fastest.level, fastest.level_max);
    }
}
