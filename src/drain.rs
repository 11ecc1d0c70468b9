//! The drain: the broker takes no more clients, sends those that it has elsewhere at a rate, and ends once none is left.
//!
//! Invariants:
//! - A client to whom something is owed is left alone until it has everything, or until the time is over.
//! - No shard waits for the drain: each is told every tenth of a second how many clients it may send away, and a request that finds no room
//!   is made up for by the next one.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::observe::service_state::{Phase, ServiceState};
use crate::process::{clock, systemd};
use crate::shard::control::Shards;

/// Time between two steps of a drain.
const STEP: Duration = Duration::from_millis(100);

/// Time after the end of the drain's time in which everybody is sent away, whatever waits for them.
const REST_MAX: Duration = Duration::from_secs(10);

/// Bytes of the name of a server.
pub(crate) const REFERENCE_BYTES_MAX: usize = 1_024;

/// The way in which the broker is to be drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainTerms {
    /// Clients that are sent away in a second, at most; not 0.
    pub(crate) rate: u32,
    /// The server that clients are referred to; `None`: that of the configuration.
    pub(crate) reference: Option<String>,
    /// Seconds in which clients are still let in, while `/readyz` tells load balancers already.
    pub(crate) wait_s: u32,
    /// Seconds after which those that are left are sent away whatever waits for them; not less than `wait_s`.
    pub(crate) timeout_s: u32,
    /// Whether the broker goes on without clients afterwards, instead of ending.
    pub(crate) stays: bool,
}

impl DrainTerms {
    /// Whether they can be carried out.
    fn are_valid(&self) -> bool {
        let reference = self.reference.as_deref().unwrap_or_default();
        self.rate > 0
            && self.timeout_s >= self.wait_s
            && reference.len() <= REFERENCE_BYTES_MAX
            && !reference.chars().any(char::is_control)
    }
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DrainPhase {
    /// There is none.
    #[default]
    Off,
    /// Load balancers are told; clients are still let in.
    Waiting,
    /// Clients are refused and sent away.
    SendingAway,
    /// The time is over: clients are sent away whatever waits for them.
    Overdue,
    /// No client is left. The broker ends, unless it stays.
    Drained,
}

/// A drain as an operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrainRow {
    /// How far it has come.
    pub(crate) phase: DrainPhase,
    /// Clients that are connected.
    pub(crate) clients: u64,
    /// Clients that were connected when it began.
    pub(crate) clients_at_start: u64,
    /// Seconds since it began.
    pub(crate) passed_s: u64,
    /// Seconds after which nobody is waited for any more.
    pub(crate) timeout_s: u64,
    /// Whether the broker goes on afterwards.
    pub(crate) stays: bool,
}

/// A drain that is under way.
struct Running {
    terms: DrainTerms,
    phase: DrainPhase,
    began: Instant,
    clients_at_start: u64,
    next: Instant,
    /// Thousandths of clients that may be sent away now.
    due: u64,
    /// The shard that is asked first for what cannot be shared out evenly.
    first: usize,
    told: Instant,
}

/// **Lives on:** the control plane.
pub(crate) struct Drain {
    /// The server of the configuration.
    configured: String,
    state: ServiceState,
    running: RefCell<Option<Running>>,
}

impl Drain {
    /// No drain. Clients are referred to the server of the configuration, if there is one and the operator names none.
    pub(crate) fn new(configured: &str, state: &ServiceState) -> Self {
        Self { configured: configured.to_owned(), state: state.clone(), running: RefCell::default() }
    }

    /// Begins a drain, or replaces the terms of the one that is under way: its time begins anew. `None`: the terms are invalid.
    pub(crate) fn begin(&self, terms: &DrainTerms, shards: &Shards) -> Option<DrainRow> {
        if !terms.are_valid() {
            return None;
        }
        let (now, clients) = (clock::read(), attached(shards));
        let DrainTerms { rate, wait_s, timeout_s, stays, .. } = *terms;
        let server_reference = self.reference(terms).to_owned();
        warn!(
            clients,
            rate,
            wait_s,
            timeout_s,
            stays,
            server_reference,
            "the broker is being drained by the operator; `mqtt-broker drain --cancel` ends that"
        );
        self.state.set_phase(Phase::Draining);
        let clients_at_start =
            self.running.borrow().as_ref().map_or(clients, |running| running.clients_at_start);
        *self.running.borrow_mut() = Some(Running {
            terms: terms.clone(),
            phase: DrainPhase::Waiting,
            began: now,
            clients_at_start,
            next: now,
            due: 0,
            first: 0,
            told: now,
        });
        Some(self.row(shards))
    }

    /// Ends a drain: clients are let in again.
    pub(crate) fn cancel(&self, shards: &Shards) -> DrainRow {
        if let Some(running) = self.running.take() {
            shards.drain(false, &self.configured);
            self.state.set_phase(Phase::Serving);
            systemd::status("serving");
            let (clients, clients_at_start) = (attached(shards), running.clients_at_start);
            warn!(
                clients,
                clients_at_start, "the drain was cancelled by the operator; clients are let in again"
            );
        }
        self.row(shards)
    }

    /// How far it has come.
    pub(crate) fn row(&self, shards: &Shards) -> DrainRow {
        let clients = attached(shards);
        let running = self.running.borrow();
        let Some(running) = &*running else { return DrainRow { clients, ..DrainRow::default() } };
        DrainRow {
            phase: running.phase,
            clients,
            clients_at_start: running.clients_at_start,
            passed_s: clock::read().saturating_duration_since(running.began).as_secs(),
            timeout_s: running.terms.timeout_s.into(),
            stays: running.terms.stays,
        }
    }

    /// The moment of the next step; `None` without a drain, and after it.
    pub(crate) fn next_step(&self) -> Option<Instant> {
        let running = self.running.borrow();
        running.as_ref().filter(|running| running.phase != DrainPhase::Drained).map(|running| running.next)
    }

    /// Whether the broker is to end.
    pub(crate) fn is_over(&self) -> bool {
        let running = self.running.borrow();
        running.as_ref().is_some_and(|running| running.phase == DrainPhase::Drained && !running.terms.stays)
    }

    /// Sends some clients away.
    pub(crate) fn step(&self, shards: &Shards) {
        let mut running = self.running.borrow_mut();
        let Some(running) = running.as_mut() else { return };
        let now = clock::read();
        running.next = now + STEP;
        let passed = now.saturating_duration_since(running.began);
        let clients = attached(shards);
        let timeout = Duration::from_secs(running.terms.timeout_s.into());
        match running.phase {
            DrainPhase::Waiting if passed >= Duration::from_secs(running.terms.wait_s.into()) => {
                shards.drain(true, self.reference(&running.terms));
                running.phase = DrainPhase::SendingAway;
            }
            DrainPhase::SendingAway if clients > 0 && passed < timeout => running.send_away(shards),
            DrainPhase::SendingAway if clients > 0 => {
                warn!(clients, "the time of the drain is over: the clients that are left are sent away");
                running.phase = DrainPhase::Overdue;
                shards.send_away(|_| u32::MAX, true);
            }
            DrainPhase::Overdue if clients > 0 && passed < timeout + REST_MAX => {
                shards.send_away(|_| u32::MAX, true);
            }
            DrainPhase::SendingAway | DrainPhase::Overdue => {
                running.phase = DrainPhase::Drained;
                let (clients_at_start, stays) = (running.clients_at_start, running.terms.stays);
                let seconds = passed.as_secs();
                warn!(clients_at_start, clients, seconds, stays, "the broker is drained");
                systemd::status("drained");
            }
            DrainPhase::Waiting | DrainPhase::Off | DrainPhase::Drained => {}
        }
        if running.phase != DrainPhase::Drained
            && now.saturating_duration_since(running.told) >= Duration::from_secs(1)
        {
            running.told = now;
            systemd::status(&format!("draining: {clients} of {} clients left", running.clients_at_start));
        }
    }

    fn reference<'a>(&'a self, terms: &'a DrainTerms) -> &'a str {
        terms.reference.as_deref().unwrap_or(&self.configured)
    }
}

impl Running {
    /// Shares out the clients that may be sent away now, by the clients that each shard has.
    fn send_away(&mut self, shards: &Shards) {
        let rate = u64::from(self.terms.rate);
        // A step that comes late is no reason for more, so that no burst follows a pause.
        self.due += rate * 100;
        let count = self.due / 1_000;
        self.due %= 1_000;
        let attached: Vec<u64> = shards.each().iter().map(|shard| shard.totals.attached).collect();
        let counts = share_out(count, &attached, self.first);
        self.first = (self.first + 1) % attached.len().max(1);
        shards.send_away(|shard| u32::try_from(counts[shard]).unwrap_or(u32::MAX), false);
    }
}

/// `count` clients shared out over shards with so many each; the rest goes to shards from `first` on.
fn share_out(count: u64, attached: &[u64], first: usize) -> Vec<u64> {
    let all: u64 = attached.iter().sum();
    let count = count.min(all);
    let mut counts: Vec<u64> =
        attached.iter().map(|&own| (count * own).checked_div(all).unwrap_or_default()).collect();
    let mut rest = count - counts.iter().sum::<u64>();
    for at in (0..counts.len()).cycle().skip(first).take(counts.len()) {
        if rest > 0 && counts[at] < attached[at] {
            counts[at] += 1;
            rest -= 1;
        }
    }
    counts
}

fn attached(shards: &Shards) -> u64 {
    shards.totals().shards.attached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shared_out_by_what_each_shard_has() {
        for (count, attached, first, expected) in [
            (10, &[10, 10][..], 0, &[5, 5][..]),
            (1, &[10, 10], 0, &[1, 0]),
            (1, &[10, 10], 1, &[0, 1]),
            (1, &[0, 10], 0, &[0, 1]),
            (3, &[1, 100, 1], 0, &[1, 2, 0]),
            (50, &[3, 0, 4], 2, &[3, 0, 4]),
            (5, &[0, 0], 0, &[0, 0]),
            (5, &[], 0, &[]),
        ] {
            assert_eq!(share_out(count, attached, first), expected, "{count} {attached:?} {first}");
        }
    }

    #[test]
    fn terms_have_a_rate_and_a_name_that_can_be_sent() {
        let terms = DrainTerms { rate: 1, reference: None, wait_s: 5, timeout_s: 5, stays: false };
        assert!(terms.are_valid());
        for invalid in [
            DrainTerms { rate: 0, ..terms.clone() },
            DrainTerms { timeout_s: 4, ..terms.clone() },
            DrainTerms { reference: Some("a\nb".to_owned()), ..terms.clone() },
            DrainTerms { reference: Some("x".repeat(REFERENCE_BYTES_MAX + 1)), ..terms },
        ] {
            assert!(!invalid.are_valid(), "{invalid:?}");
        }
    }
}
