//! The control plane's handle on the shards. Requests go through a bounded channel and a doorbell; counters come back
//! through shared memory.
//! Only a change of the rules and the request to stop wait for room in the channel. Any other request that finds no room is dropped: it is
//! repeated by its interval, or its sender reports that the shard is busy.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::{CauseGroup, LiveLimits, SharedRules, Topology};

use super::cores::ThreadId;
use super::gauges::Gauges;
use super::memory_share::Reported;
use super::view::View;
use crate::admin::operator::{Asked, OperatorCommand, Receivers};
use crate::auth::{NewListeners, Side};
use crate::backend::Doorbells;
use crate::config::ListenerConfig;
use crate::net::bans::Bans;
use crate::net::listen::{ListenerChange, ListenerNumber, ListenerTables};
use crate::net::permits::ConnectionPermits;
use crate::observe::statistics::{ShardReport, Totals};
use crate::observe::sys_topics::SysMessage;
use crate::observe::tally::Tally;
use crate::process::clock;

/// Requests that can wait for one shard. Any other than a stop that finds no room is dropped.
pub(super) const REQUESTS_MAX: usize = 8;

/// A request of the control plane to a shard.
#[derive(Debug)]
pub(crate) enum Control {
    /// Accept connections: every shard has received the subscriptions of the others.
    Accept,
    /// Confirm that the shard turns, by this number.
    Turn(u64),
    /// Publish these `$SYS` messages.
    Publish(Vec<SysMessage>),
    /// Execute the request of an operator.
    Ask(Asked),
    /// Put these rules about topics into force; `None`: everything is allowed.
    Rules(Option<SharedRules>),
    /// Decide by these bounds from now on.
    Limits(LiveLimits),
    /// Know these listeners from now on, and answer.
    Tables(Box<ListenerTables>, Sender<()>),
    /// Accept on other sockets, and end the clients of listeners that are gone.
    Listeners(Box<ListenerChange>),
    /// Close the connections of clients whose certificates are revoked now.
    Revoked,
    /// Refuse clients, or let them in again, and refer them to this server.
    Drain { is_on: bool, server_reference: String },
    /// Send so many clients away, if the shard is being drained.
    SendAway { count: u32, is_overdue: bool },
    /// Export the records of persistent sessions, if they changed.
    ExportSubscriptions,
    /// Accept no more packets from clients, and answer whether no message is in flight to or from this shard.
    Quiesce(Sender<bool>),
    /// Disconnect the clients, and end within this time.
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
    pub(super) memory_bytes_max: u64,
    pub(super) memory_reports: Receiver<Reported>,
    /// The topology of shard 0. The homes of clients and topics are the same for all shards.
    pub(super) topology: Topology,
    pub(super) turn_requested: AtomicU64,
    /// The way to the side thread of authentication, if there is one.
    pub(super) authentication: Option<Side>,
    pub(super) known: KnownListeners,
}

/// The listeners of the start, and everything that is told of later ones.
pub(super) struct KnownListeners {
    /// The sockets, as the first shard has them.
    pub(super) sockets: Vec<ListenerNumber>,
    pub(super) tables: ListenerTables,
    pub(super) methods: NewListeners,
    /// The counts of clients that come.
    pub(super) tally: Tally,
}

impl Shards {
    /// Has the files of users and keys read again. False if there are none.
    pub(crate) fn read_users(&self) -> bool {
        self.authentication.as_ref().map(Side::read_files).is_some()
    }

    /// The counters of each shard, in the order of the shards.
    pub(crate) fn each(&self) -> Vec<ShardReport> {
        self.threads
            .iter()
            .map(|thread| ShardReport { totals: thread.gauges.read(), times: thread.id.times() })
            .collect()
    }

    /// The published counters, for another thread.
    pub(crate) fn view(&self) -> View {
        View {
            shards: self.threads.iter().map(|thread| (thread.gauges.clone(), thread.id)).collect(),
            permits: self.permits.clone(),
            memory_bytes_max: self.memory_bytes_max,
        }
    }

    /// Whether every log has made durable what this start began with.
    pub(crate) fn have_journals_begun(&self) -> bool {
        self.threads.iter().all(|thread| thread.gauges.has_journal_begun())
    }

    /// Sums over all shards.
    pub(crate) fn totals(&self) -> Totals {
        let gauges = self.threads.iter().map(|thread| &thread.gauges);
        sum(&self.permits, self.memory_bytes_max, gauges)
    }

    /// The reports about memory that came since the last call.
    pub(crate) fn memory_reports(&self) -> impl Iterator<Item = Reported> {
        self.memory_reports.try_iter()
    }

    /// Whether every shard has turned since the last call. If so, requests the next turn.
    pub(crate) fn all_shards_turned(&self) -> bool {
        let requested = self.turn_requested.load(Relaxed);
        let turned = self.threads.iter().all(|thread| thread.gauges.turn_completed() >= requested);
        if turned {
            self.turn_requested.store(requested + 1, Relaxed);
            self.request_all(|| Control::Turn(requested + 1));
        }
        turned
    }

    /// Requests the records of persistent sessions that changed.
    pub(crate) fn export_subscriptions(&self) {
        self.request_all(|| Control::ExportSubscriptions);
    }

    /// Puts rules about topics into force on every shard. A change must not be lost, so it waits for room.
    pub(crate) fn change_rules(&self, rules: Option<&SharedRules>) {
        for (shard, thread) in self.threads.iter().enumerate() {
            let _ = thread.control.send(Control::Rules(rules.cloned()));
            self.doorbells.ring(shard);
        }
    }

    /// Replaces bounds on every shard. A change must not be lost, so it waits for room.
    pub(crate) fn change_limits(&self, limits: &LiveLimits) {
        for (shard, thread) in self.threads.iter().enumerate() {
            let _ = thread.control.send(Control::Limits(limits.clone()));
            self.doorbells.ring(shard);
        }
    }

    /// The sockets and the listeners of the start.
    pub(crate) fn listeners(&self) -> (&[ListenerNumber], &ListenerTables) {
        (&self.known.sockets, &self.known.tables)
    }

    /// A listener has a new number; `first` is the first of that name. To be told before any shard.
    pub(crate) fn admit_listener(&self, number: u16, first: u16, config: &ListenerConfig) {
        self.permits.add_listener(number, first, config);
        self.known.tally.add_listener(number, first, config);
        self.known.methods.add(number, config);
    }

    /// Has every shard accept on other sockets. A connection that moves to another shard is known there too, since none accepts before
    /// all know the new listeners.
    pub(crate) fn change_listeners(&self, tables: &ListenerTables, changes: Vec<ListenerChange>) {
        let (known, all_know) = bounded(self.threads.len());
        for (shard, thread) in self.threads.iter().enumerate() {
            let _ = thread.control.send(Control::Tables(Box::new(tables.clone()), known.clone()));
            self.doorbells.ring(shard);
        }
        drop(known);
        // It ends when every shard has answered, or has ended.
        let _ = all_know.iter().count();
        for ((shard, thread), change) in self.threads.iter().enumerate().zip(changes) {
            let _ = thread.control.send(Control::Listeners(Box::new(change)));
            self.doorbells.ring(shard);
        }
    }

    /// The bans of the process.
    pub(crate) fn bans(&self) -> &Bans {
        self.permits.bans()
    }

    /// The number of shards.
    pub(crate) fn count(&self) -> u16 {
        self.topology.shard_count
    }

    /// Has every shard look for connections whose certificates are revoked now. It must not be lost, so it waits for room.
    pub(crate) fn close_revoked(&self) {
        for (shard, thread) in self.threads.iter().enumerate() {
            let _ = thread.control.send(Control::Revoked);
            self.doorbells.ring(shard);
        }
    }

    /// Has every shard refuse clients, or let them in again. It must not be lost, so it waits for room.
    pub(crate) fn drain(&self, is_on: bool, server_reference: &str) {
        for (shard, thread) in self.threads.iter().enumerate() {
            let server_reference = server_reference.to_owned();
            let _ = thread.control.send(Control::Drain { is_on, server_reference });
            self.doorbells.ring(shard);
        }
    }

    /// Has each shard send as many clients away as `count` says of it; shards that have none to send away are left alone.
    pub(crate) fn send_away(&self, count: impl Fn(usize) -> u32, is_overdue: bool) {
        for (shard, thread) in self.threads.iter().enumerate() {
            let count = count(shard);
            if count > 0 {
                let _ = thread.control.try_send(Control::SendAway { count, is_overdue });
                self.doorbells.ring(shard);
            }
        }
    }

    /// Has the command of an operator executed by the shards that it concerns. One that finds no room is dropped, and with it the
    /// channel for its answer.
    pub(crate) fn execute(&self, command: OperatorCommand) {
        let OperatorCommand { request, answers } = command;
        let concerned = match request.receivers() {
            Receivers::None | Receivers::Main => 0..0,
            Receivers::All => 0..self.threads.len(),
            Receivers::HomeOf(client_id) => {
                let home = usize::from(self.topology.home_of_client(client_id));
                home..home + 1
            }
            Receivers::HomeOfTopic(topic) => {
                let home = usize::from(self.topology.home_of_topic(topic));
                home..home + 1
            }
            Receivers::Shard(shard) => {
                let shard = usize::from(shard).min(self.threads.len());
                shard..(shard + 1).min(self.threads.len())
            }
        };
        let (answer, to_come) = bounded(concerned.len().max(1));
        // The operator may have stopped waiting.
        let _ = answers.send((to_come, concerned.len()));
        for shard in concerned {
            let asked = Asked { request: request.clone(), answer: answer.clone() };
            let _ = self.threads[shard].control.try_send(Control::Ask(asked));
            self.doorbells.ring(shard);
        }
    }

    /// Passes each message to the home shard of its topic. Returns the messages that were passed on.
    pub(crate) fn publish(&self, messages: Vec<SysMessage>) -> Vec<SysMessage> {
        let mut by_shard: Vec<Vec<SysMessage>> = self.threads.iter().map(|_| Vec::new()).collect();
        for message in messages {
            by_shard[usize::from(self.topology.home_of_topic(&message.0))].push(message);
        }
        let mut passed_on = Vec::new();
        for (shard, (thread, messages)) in self.threads.iter().zip(by_shard).enumerate() {
            // A shard without new messages is not woken.
            if !messages.is_empty() && thread.control.try_send(Control::Publish(messages.clone())).is_ok() {
                self.doorbells.ring(shard);
                passed_on.extend(messages);
            }
        }
        passed_on
    }

    /// Ends all shards: clients receive 0x8B and their messages in flight, within `deadline`.
    ///
    /// # Panics
    /// If the thread of a shard panicked, which ends the process in any case.
    pub(crate) fn stop(mut self, deadline: Duration) -> Totals {
        self.quiesce(deadline / 2);
        for (shard, thread) in self.threads.iter().enumerate() {
            // No other requests are sent any more, so room becomes free.
            let _ = thread.control.send(Control::Stop(deadline));
            self.doorbells.ring(shard);
        }
        let gauges: Vec<Gauges> = self.threads.iter().map(|thread| thread.gauges.clone()).collect();
        for thread in self.threads.drain(..) {
            thread.handle.join().expect("a panic ends the process");
        }
        sum(&self.permits, self.memory_bytes_max, gauges.iter())
    }

    /// Waits at most `time_limit` until every acknowledged message has reached its shard.
    fn quiesce(&self, time_limit: Duration) {
        let last = clock::read() + time_limit;
        let mut idle_rounds = 0;
        // A shard can answer in one round before another one sends it a message. After two idle rounds that is
        // impossible.
        while idle_rounds < 2 && clock::read() < last {
            let (answer, answers) = bounded(self.threads.len());
            self.request_all(|| Control::Quiesce(answer.clone()));
            drop(answer);
            let idle = self.threads.iter().all(|_| answers.recv_timeout(time_limit) == Ok(true));
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

pub(super) fn sum<'a>(
    permits: &ConnectionPermits,
    memory_bytes_max: u64,
    gauges: impl Iterator<Item = &'a Gauges>,
) -> Totals {
    let mut totals = Totals {
        connections: permits.in_use().into(),
        connections_max: permits.max().into(),
        connections_unanswered: permits.unanswered(CauseGroup::TooManyConnections),
        addresses_unanswered: permits.unanswered(CauseGroup::AddressLimit),
        banned_unanswered: permits.unanswered(CauseGroup::Banned),
        bans: permits.bans().count(),
        memory_bytes_max,
        ..Totals::default()
    };
    for gauges in gauges {
        totals.shards.add(&gauges.read());
        totals.pending_at_end += gauges.pending_at_end();
        totals.journal = totals.journal.max(gauges.journal());
    }
    totals
}
