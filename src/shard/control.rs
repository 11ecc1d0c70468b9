//! How the control plane speaks to the shards: requests on a bounded channel and a doorbell one way, counters the other.
//! No request waits for a shard but the stop; the others repeat, so one that finds no room is left out.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use engine::Topology;

use super::cores::ThreadId;
use super::gauges::Gauges;
use crate::admin::operator::DisconnectCommand;
use crate::backend::Doorbells;
use crate::net::permits::ConnectionPermits;
use crate::observe::statistics::{ShardReport, Totals};
use crate::observe::sys_topics::SysMessage;
use crate::process::clock;

/// Requests that may wait for a shard. They repeat, so one that finds no room is left out.
pub(super) const REQUESTS_MAX: usize = 8;

/// Something the control plane asks of a shard.
#[derive(Debug)]
pub(crate) enum Control {
    /// Accept connections: every shard knows what the others subscribe to.
    Accept,
    /// Show that you turn.
    Turn(u64),
    /// Publish these messages of the broker's own.
    Publish(Vec<SysMessage>),
    /// Close the connection of a client whose session is at home here.
    Disconnect(DisconnectCommand),
    /// Hand the records of persistent sessions over, if they changed.
    ExportSubscriptions,
    /// Take no more packets from clients, and answer whether nothing is on its way to or from here.
    Quiesce(Sender<bool>),
    /// Tell the clients, and end within this time.
    Stop(Duration),
}

pub(super) struct Thread {
    pub(super) control: Sender<Control>,
    pub(super) gauges: Gauges,
    pub(super) id: ThreadId,
    pub(super) handle: JoinHandle<()>,
}

/// All shards of the process.
pub(crate) struct Shards {
    pub(super) threads: Vec<Thread>,
    pub(super) doorbells: Doorbells,
    pub(super) permits: ConnectionPermits,
    /// Of one shard, but the homes of topics are the same for all.
    pub(super) topology: Topology,
    pub(super) turn_requested: AtomicU64,
}

impl Shards {
    /// What each shard shows, in order.
    pub(crate) fn each(&self) -> Vec<ShardReport> {
        self.threads
            .iter()
            .map(|thread| ShardReport { totals: thread.gauges.read(), busy: thread.id.busy() })
            .collect()
    }

    /// Sums over all shards.
    pub(crate) fn totals(&self) -> Totals {
        sum(&self.permits, self.threads.iter().map(|thread| &thread.gauges))
    }

    /// Whether every shard has turned since the last call; asks them to turn again.
    pub(crate) fn all_shards_turned(&self) -> bool {
        let requested = self.turn_requested.load(Relaxed);
        let turned = self.threads.iter().all(|thread| thread.gauges.turn_completed() >= requested);
        if turned {
            self.turn_requested.store(requested + 1, Relaxed);
            self.request_all(|| Control::Turn(requested + 1));
        }
        turned
    }

    /// Asks the shards for the records of persistent sessions that changed.
    pub(crate) fn export_subscriptions(&self) {
        self.request_all(|| Control::ExportSubscriptions);
    }

    /// Has the connection of a client closed by the shard where its session is at home. An order that the shard has no
    /// room for is dropped, and with it the way to answer it.
    pub(crate) fn disconnect(&self, command: DisconnectCommand) {
        let home = usize::from(self.topology.home_of_client(&command.client_id));
        let _ = self.threads[home].control.try_send(Control::Disconnect(command));
        self.doorbells.ring(home);
    }

    /// Has each message published by the shard where its topic is at home. Returns those that were passed on.
    pub(crate) fn publish(&self, messages: Vec<SysMessage>) -> Vec<SysMessage> {
        let mut by_shard: Vec<Vec<SysMessage>> = self.threads.iter().map(|_| Vec::new()).collect();
        for message in messages {
            by_shard[usize::from(self.topology.home_of_topic(&message.0))].push(message);
        }
        let mut passed_on = Vec::new();
        for (shard, (thread, messages)) in self.threads.iter().zip(by_shard).enumerate() {
            // A shard without news sleeps on.
            if !messages.is_empty() && thread.control.try_send(Control::Publish(messages.clone())).is_ok() {
                self.doorbells.ring(shard);
                passed_on.extend(messages);
            }
        }
        passed_on
    }

    /// Ends all shards: clients are told 0x8B and get what is on its way to them, within `deadline`.
    ///
    /// # Panics
    /// If a shard's thread panicked, which ends the process anyway.
    pub(crate) fn stop(mut self, deadline: Duration) -> Totals {
        self.quiesce(deadline / 2);
        for (shard, thread) in self.threads.iter().enumerate() {
            // Nothing else is asked any more, so there will be room.
            let _ = thread.control.send(Control::Stop(deadline));
            self.doorbells.ring(shard);
        }
        let gauges: Vec<Gauges> = self.threads.iter().map(|thread| thread.gauges.clone()).collect();
        for thread in self.threads.drain(..) {
            thread.handle.join().expect("a panic ends the process");
        }
        sum(&self.permits, gauges.iter())
    }

    /// Waits, at most `patience`, until everything that clients were promised has crossed to its shard.
    fn quiesce(&self, patience: Duration) {
        let last = clock::read() + patience;
        let mut idle_rounds = 0;
        // In one round a shard may have answered before another sent it something; in two it has not.
        while idle_rounds < 2 && clock::read() < last {
            let (answer, answers) = bounded(self.threads.len());
            self.request_all(|| Control::Quiesce(answer.clone()));
            drop(answer);
            let idle = self.threads.iter().all(|_| answers.recv_timeout(patience) == Ok(true));
            idle_rounds = if idle { idle_rounds + 1 } else { 0 };
        }
    }

    pub(super) fn request_all(&self, control: impl Fn() -> Control) {
        for (shard, thread) in self.threads.iter().enumerate() {
            let _ = thread.control.try_send(control());
            self.doorbells.ring(shard);
        }
    }
}

fn sum<'a>(permits: &ConnectionPermits, gauges: impl Iterator<Item = &'a Gauges>) -> Totals {
    let mut totals = Totals {
        connections: permits.in_use().into(),
        connections_max: permits.max().into(),
        ..Totals::default()
    };
    for gauges in gauges {
        totals.shards.add(&gauges.read());
    }
    totals
}
