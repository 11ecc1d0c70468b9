//! The context of one step, passed down through the rooms: the moment, the bounds, the work done so far, and where effects
//! are noted.

use alloc::vec::Vec;

use crate::action::Actions;
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::time::Instant;
use crate::cause::Cause;
use crate::counters::Counters;
use crate::limits::Limits;
use crate::memory::Held;
use crate::record::Recorder;
use crate::rules_in_force::RulesInForce;
use crate::timer::Timers;

/// Something that has to end, but not while a fan-out walks over it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Session(SessionId, Cause),
    Connection(ConnectionId, Cause),
}

/// **Lives:** as long as one step.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) limits: &'a Limits,
    pub(crate) actions: &'a mut Actions,
    pub(crate) counters: &'a mut Counters,
    pub(crate) timers: &'a mut Timers,
    /// The rules about topics; `None`: everything is allowed.
    rules: Option<&'a RulesInForce>,
    /// Every message is looked at by the rules.
    checks_all: bool,
    /// Where rooms write what has to outlive the process; `None` without a log.
    recorder: Option<&'a mut Recorder>,
    /// Bytes up to which an outbox takes messages: less than its limit while memory is short.
    outbox_bytes_max: u64,
    /// Where sessions note by how much they grow or shrink.
    held: &'a mut Held,
    /// Carried out after each packet. Bounded by the sessions and connections, since each ends once.
    pub(crate) endings: &'a mut Vec<Ending>,
    /// Units of work done in this step, see [`Turn::spend`].
    work: u32,
    /// Units of work at which a fan-out is cut that began within the step's share.
    overdraft: u32,
    /// The part of the work that put messages into outboxes or queues.
    delivery_work: u32,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(
        now: Instant,
        limits: &'a Limits,
        actions: &'a mut Actions,
        (counters, held): (&'a mut Counters, &'a mut Held),
        timers: &'a mut Timers,
        endings: &'a mut Vec<Ending>,
    ) -> Self {
        let overdraft = limits.step_work_max.saturating_mul(2);
        let outbox_bytes_max = limits.outbox_bytes_max.into();
        Self {
            now,
            limits,
            actions,
            counters,
            timers,
            rules: None,
            checks_all: false,
            recorder: None,
            outbox_bytes_max,
            held,
            endings,
            work: 0,
            overdraft,
            delivery_work: 0,
        }
    }

    /// Sets the rules, and whether every message is looked at by them.
    #[inline]
    pub(crate) fn set_rules(&mut self, rules: Option<&'a RulesInForce>, checks_all: bool) {
        self.rules = rules;
        self.checks_all = checks_all;
    }

    #[inline]
    pub(crate) fn set_recorder(&mut self, recorder: Option<&'a mut Recorder>) {
        self.recorder = recorder;
    }

    /// Where to write what has to outlive the process; `None` without a log.
    #[inline]
    pub(crate) fn recorder(&mut self) -> Option<&mut Recorder> {
        self.recorder.as_deref_mut()
    }

    /// Whether there is a log.
    #[inline]
    pub(crate) fn is_recording(&self) -> bool {
        self.recorder.is_some()
    }

    /// The rules about topics; `None`: everything is allowed.
    #[inline]
    pub(crate) fn rules(&self) -> Option<&'a RulesInForce> {
        self.rules
    }

    /// Whether every message is looked at by the rules, because they have changed.
    #[inline]
    pub(crate) fn checks_all(&self) -> bool {
        self.checks_all
    }

    /// Lets every message of a fan-out be looked at, or as many as before. Returns what was so before.
    pub(crate) fn set_checks_all(&mut self, checks_all: bool) -> bool {
        core::mem::replace(&mut self.checks_all, checks_all)
    }

    /// Bytes up to which an outbox takes messages.
    pub(crate) fn outbox_bytes_max(&self) -> u64 {
        self.outbox_bytes_max
    }

    pub(crate) fn set_outbox_bytes_max(&mut self, bytes_max: u64) {
        self.outbox_bytes_max = bytes_max;
    }

    /// The sums that sessions have noted.
    pub(crate) fn held(&self) -> &Held {
        self.held
    }

    /// Where sessions note by how much they grow or shrink.
    pub(crate) fn held_mut(&mut self) -> &mut Held {
        self.held
    }

    /// Counts work. A unit is a delivery offered to a session, or as much as that takes: half a microsecond where memory
    /// is warm. So the count depends on the events alone, and a simulator can bound it.
    #[inline]
    pub(crate) fn spend(&mut self, units: u32) {
        self.work = self.work.saturating_add(units);
    }

    /// Counts one delivery offered to a session.
    #[inline]
    pub(crate) fn spend_delivery(&mut self) {
        self.work += 1;
        self.delivery_work += 1;
    }

    /// Whether the step has done its share: it ends between two pieces of work, and the next step goes on.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.work >= self.limits.step_work_max
    }

    /// Whether the step has done twice its share: a fan-out that began within the share is cut.
    #[inline]
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.work >= self.overdraft
    }

    /// Units that are left before [`Turn::is_overdrawn`].
    pub(crate) fn overdraft_left(&self) -> usize {
        self.overdraft.saturating_sub(self.work) as usize
    }

    /// Units that are left before [`Turn::is_spent`].
    pub(crate) fn work_left(&self) -> u32 {
        self.limits.step_work_max.saturating_sub(self.work)
    }

    /// Units of work done in this step.
    pub(crate) fn work(&self) -> u32 {
        self.work
    }

    /// Whether most of the step's work were deliveries: then one send carries more if the next step follows at once.
    pub(crate) fn was_delivering(&self) -> bool {
        self.delivery_work * 2 >= self.work
    }
}
