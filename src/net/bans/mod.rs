//! Bans: of a user name from one address after failures of authentication, of a whole address, and of a client identifier with
//! which a user connects again and again, so that no user bans the devices of another. Nothing is banned unless `[bans]` or the operator
//! says so.
//! Invariants: loopback and trusted proxies are never banned, since none of them is ever asked about here; counts and bans have bounds;
//! a ban ends by itself, and outlives the process until then.

mod counts;
mod file;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use engine::NOTICE_TEXT_BYTES_MAX;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::limits::BansConfig;
use crate::net::addresses::Network;
use crate::observe::connection_log::printable;
use crate::observe::line_budget::LineBudget;
use crate::process::clock;
use counts::Counts;

#[expect(
    clippy::disallowed_types,
    reason = "shards let in clients of one address; a message never comes here"
)]
type Shared<T> = std::sync::Arc<T>;

#[expect(
    clippy::disallowed_types,
    reason = "shards let in clients of one address; a message never takes this lock"
)]
type Locked<T> = std::sync::Mutex<T>;

/// Bans at the same time. One more replaces the one that ends first.
pub(crate) const BANS_MAX: usize = 10_000;

/// Bans of user names from one address, and of client identifiers of one user. One more replaces the one among them that ends
/// first, so that nobody lifts the bans of others by names that it invents.
const GROUP_BANS_MAX: usize = 64;

/// Bytes of the places of one subject in the tables of counts, with what trees leave empty.
const COUNT_BYTES: usize = 320;

/// Log lines about bans at once, and milliseconds until there may be one more.
const LINES: (u64, u64) = (100, 1_000);

/// The subject of a ban.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// A user name from an address.
    User {
        /// The address, or the first one of a network of IPv6.
        address: IpAddr,
        /// The name that the client sends, cut to [`NOTICE_TEXT_BYTES_MAX`].
        user: String,
    },
    /// An address, or a network of IPv6.
    Address {
        /// The first address.
        address: IpAddr,
    },
    /// A client identifier of a user.
    Client {
        /// The user that the client is judged to be, cut to the same length.
        user: String,
        /// The identifier, cut to the same length.
        client_id: String,
    },
    /// A client identifier of nobody, from an address.
    ClientAt {
        /// The address, or the first one of a network of IPv6.
        address: IpAddr,
        /// The identifier, cut to the same length.
        client_id: String,
    },
}

/// A ban and its end, in seconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ban {
    /// The subject.
    #[serde(flatten)]
    pub(crate) subject: Subject,
    /// The end.
    pub(crate) until_s: u64,
}

/// The bans that are to be lifted: those to which everything applies that is given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Lift {
    /// Bans of this address, and of its users and clients.
    pub(crate) address: Option<IpAddr>,
    /// Bans of this user, and of its clients.
    pub(crate) user: Option<String>,
    /// Bans of this client identifier.
    pub(crate) client_id: Option<String>,
}

impl Lift {
    fn applies_to(&self, subject: &Subject) -> bool {
        let (address, user, client_id) = match subject {
            Subject::User { address, user } => (Some(address), Some(user), None),
            Subject::Address { address } => (Some(address), None, None),
            Subject::Client { user, client_id } => (None, Some(user), Some(client_id)),
            Subject::ClientAt { address, client_id } => (Some(address), None, Some(client_id)),
        };
        self.address.is_none_or(|given| address == Some(&Network::of(given).first()))
            && self.user.as_ref().is_none_or(|given| user == Some(&cut(given)))
            && self.client_id.as_ref().is_none_or(|given| client_id == Some(&cut(given)))
    }
}

/// A handle on the bans of the process. **Lives on:** any thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bans(Option<Shared<Table>>);

#[derive(Debug)]
struct Table {
    settings: Settings,
    state: Locked<State>,
    /// Bans in force, so that nothing is locked while there is none.
    count: AtomicU64,
    /// Bans and subjects that are counted, for the memory that they take.
    entries: AtomicUsize,
}

/// The keys of `[bans]`, which a reload changes.
#[derive(Debug, Default)]
struct Settings {
    failures_max: AtomicU32,
    address_failures_max: AtomicU32,
    flapping_max: AtomicU32,
    window_s: AtomicU32,
    ban_s: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    /// By subject, the end in seconds since 1970.
    bans: BTreeMap<Subject, u64>,
    counts: Counts,
    lines: LineBudget,
    /// The bans differ from those of the file.
    changed: bool,
}

impl Bans {
    /// The bans of a configuration: none yet.
    pub(crate) fn of(config: Option<&BansConfig>) -> Self {
        let settings = Settings::default();
        settings.change(config);
        Self(Some(Shared::new(Table {
            settings,
            state: Locked::default(),
            count: AtomicU64::new(0),
            entries: AtomicUsize::new(0),
        })))
    }

    /// Counts and bans by these settings from now on. Bans that are in force stay.
    pub(crate) fn change(&self, config: Option<&BansConfig>) {
        if let Some(table) = &self.0 {
            table.settings.change(config);
        }
    }

    /// Bans a subject that the operator names, instead of a ban that it has.
    pub(crate) fn ban(&self, ban: Ban) {
        let Some(table) = &self.0 else { return };
        let mut state = table.lock();
        state.ban(ban.subject, ban.until_s);
        table.note_count(&state);
    }

    /// Reads the bans that outlived the process. A file that is damaged is kept aside.
    pub(crate) fn load(&self, data_dir: &Path) -> Self {
        let Some(table) = &self.0 else { return self.clone() };
        let now_s = clock::unix_s();
        for Ban { subject, until_s } in file::load(data_dir) {
            if until_s > now_s {
                table.lock().bans.insert(subject, until_s);
            }
        }
        table.note_count(&table.lock());
        self.clone()
    }

    /// Ends bans whose time is over, and writes the file if the bans have changed. To be called about once a second.
    pub(crate) fn second(&self, data_dir: &Path) {
        let Some(table) = &self.0 else { return };
        let now_s = clock::unix_s();
        let bans: Vec<Ban> = {
            let mut state = table.lock();
            let before = state.bans.len();
            state.bans.retain(|_, until_s| *until_s > now_s);
            let changed = std::mem::take(&mut state.changed) || state.bans.len() != before;
            table.note_count(&state);
            if !changed {
                return;
            }
            state.bans.iter().map(|(subject, &until_s)| Ban { subject: subject.clone(), until_s }).collect()
        };
        if let Err(error) = file::save(data_dir, &bans) {
            warn!(%error, "the bans cannot be written; they hold while the broker runs, and it tries again");
            table.lock().changed = true;
        }
    }

    /// Whether connections of an address are refused.
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        self.active()
            .is_some_and(|table| table.has(&Subject::Address { address: Network::of(address).first() }))
    }

    /// Whether a client is refused by the name that it sends.
    pub(crate) fn has_user(&self, address: IpAddr, user: &str) -> bool {
        let address = Network::of(address).first();
        self.active().is_some_and(|table| table.has(&Subject::User { address, user: cut(user) }))
    }

    /// Whether a client is refused by its identifier, once it is judged to be this user, or nobody.
    pub(crate) fn has_client(&self, address: IpAddr, user: Option<&str>, client_id: &str) -> bool {
        self.active().is_some_and(|table| table.has(&Subject::client(address, user, client_id)))
    }

    /// A client from this address failed to authenticate.
    pub(crate) fn count_failure(&self, address: IpAddr, user: Option<&str>, now_ms: u64) {
        let Some(table) = &self.0 else { return };
        let address = Network::of(address).first();
        let failures_max = table.settings.failures_max.load(Relaxed);
        if let Some(user) = user.filter(|_| failures_max > 0) {
            table.count(Subject::User { address, user: cut(user) }, failures_max, now_ms);
        }
        table.count(Subject::Address { address }, table.settings.address_failures_max.load(Relaxed), now_ms);
    }

    /// A client was let in as this user, or as nobody.
    pub(crate) fn count_connection(&self, address: IpAddr, user: Option<&str>, client_id: &str, now_ms: u64) {
        let Some(table) = &self.0 else { return };
        let flapping_max = table.settings.flapping_max.load(Relaxed);
        if flapping_max > 0 {
            table.count(Subject::client(address, user, client_id), flapping_max, now_ms);
        }
    }

    /// At most `count` bans after the first `from`.
    pub(crate) fn list(&self, from: usize, count: usize) -> Vec<Ban> {
        let Some(table) = &self.0 else { return Vec::new() };
        let state = table.lock();
        let bans = state.bans.iter().skip(from).take(count);
        bans.map(|(subject, &until_s)| Ban { subject: subject.clone(), until_s }).collect()
    }

    /// Lifts bans, and forgets the failures that led there. Returns how many.
    pub(crate) fn lift(&self, lift: &Lift) -> usize {
        let Some(table) = &self.0 else { return 0 };
        let mut state = table.lock();
        let before = state.bans.len();
        state.bans.retain(|subject, _| !lift.applies_to(subject));
        state.counts.forget_if(|subject| lift.applies_to(subject));
        let lifted = before - state.bans.len();
        state.changed |= lifted > 0;
        table.note_count(&state);
        lifted
    }

    /// Bans in force.
    pub(crate) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |table| table.count.load(Relaxed))
    }

    /// Bytes that bans and counts take, at most.
    pub(crate) fn memory_bytes(&self) -> usize {
        let entries = self.0.as_ref().map_or(0, |table| table.entries.load(Relaxed));
        entries * (size_of::<Subject>() + COUNT_BYTES + 2 * NOTICE_TEXT_BYTES_MAX)
    }

    /// The table, if there is a ban.
    fn active(&self) -> Option<&Table> {
        self.0.as_deref().filter(|table| table.count.load(Relaxed) > 0)
    }
}

impl Settings {
    fn change(&self, config: Option<&BansConfig>) {
        // Without the table nothing is counted, and the operator may ban.
        let nothing =
            BansConfig { failures_max: 0, address_failures_max: 0, flapping_max: 0, ..BansConfig::default() };
        let config = config.unwrap_or(&nothing);
        self.failures_max.store(config.failures_max, Relaxed);
        self.address_failures_max.store(config.address_failures_max, Relaxed);
        self.flapping_max.store(config.flapping_max, Relaxed);
        self.window_s.store(config.window_s, Relaxed);
        self.ban_s.store(config.ban_s, Relaxed);
    }
}

impl Table {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the lock")
    }

    fn note_count(&self, state: &State) {
        self.count.store(state.bans.len() as u64, Relaxed);
        self.entries.store(state.bans.len() + state.counts.len(), Relaxed);
    }

    fn has(&self, subject: &Subject) -> bool {
        self.lock().bans.get(subject).is_some_and(|until_s| *until_s > clock::unix_s())
    }

    /// Counts one more event of a subject, and bans it at `max` of them in a window; 0: never.
    fn count(&self, subject: Subject, max: u32, now_ms: u64) {
        if max == 0 {
            return;
        }
        let window_ms = u64::from(self.settings.window_s.load(Relaxed)) * 1_000;
        let mut state = self.lock();
        if state.counts.add(&subject, window_ms, now_ms) < max {
            return self.note_count(&state);
        }
        state.counts.forget(&subject);
        let ban_s = self.settings.ban_s.load(Relaxed);
        if state.lines.admit(now_ms, LINES.0, LINES.1) {
            info!(subject = %subject.shown(), seconds = ban_s, "banned");
        }
        state.ban(subject, clock::unix_s() + u64::from(ban_s));
        self.note_count(&state);
    }
}

impl State {
    fn ban(&mut self, subject: Subject, until_s: u64) {
        let first = if self.group(&subject).count() >= GROUP_BANS_MAX {
            self.group(&subject).min_by_key(|(_, until_s)| **until_s)
        } else if self.bans.len() >= BANS_MAX {
            self.bans.iter().min_by_key(|(_, until_s)| **until_s)
        } else {
            None
        };
        if let Some(first) = first.map(|(subject, _)| subject.clone()) {
            self.bans.remove(&first);
        }
        self.bans.insert(subject, until_s);
        self.changed = true;
    }

    /// The bans of the group of a subject: they lie side by side.
    fn group<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = (&'a Subject, &'a u64)> {
        let others = self.bans.range(subject.group_begin()..);
        others.take_while(|(other, _)| other.group_begin() == subject.group_begin())
    }
}

impl Subject {
    /// The subject that an operator names; `None` if this combination cannot be banned.
    pub(crate) fn of(address: Option<IpAddr>, user: Option<&str>, client_id: Option<&str>) -> Option<Self> {
        let first = |address| Network::of(address).first();
        match (address, user, client_id) {
            (Some(address), None, None) => Some(Self::Address { address: first(address) }),
            (Some(address), Some(user), None) => {
                Some(Self::User { address: first(address), user: cut(user) })
            }
            (None, Some(user), Some(client_id)) => {
                Some(Self::Client { user: cut(user), client_id: cut(client_id) })
            }
            (Some(address), None, Some(client_id)) => {
                Some(Self::ClientAt { address: first(address), client_id: cut(client_id) })
            }
            _ => None,
        }
    }

    /// The client of a user, or of nobody.
    fn client(address: IpAddr, user: Option<&str>, client_id: &str) -> Self {
        let client_id = cut(client_id);
        match user.filter(|user| !user.is_empty()) {
            Some(user) => Self::Client { user: cut(user), client_id },
            None => Self::ClientAt { address: Network::of(address).first(), client_id },
        }
    }

    /// A subject before all others of its group: those of one address, or of one user. A whole address is a group of its own.
    fn group_begin(&self) -> Self {
        match *self {
            Self::User { address, .. } => Self::User { address, user: String::new() },
            Self::Address { address } => Self::Address { address },
            Self::Client { ref user, .. } => Self::Client { user: user.clone(), client_id: String::new() },
            Self::ClientAt { address, .. } => Self::ClientAt { address, client_id: String::new() },
        }
    }

    /// The subject as lists and the log show it. Each text of a peer is escaped and has at most 256 bytes.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::User { address, user } => format!("{} user={:?}", shown(*address), printable(user)),
            Self::Address { address } => shown(*address),
            Self::Client { user, client_id } => {
                format!("client={:?} user={:?}", printable(client_id), printable(user))
            }
            Self::ClientAt { address, client_id } => {
                format!("client={:?} {}", printable(client_id), shown(*address))
            }
        }
    }
}

fn shown(address: IpAddr) -> String {
    if address.is_ipv6() { format!("address={address}/64") } else { format!("address={address}") }
}

/// The beginning of a text, as notices of the engine carry it.
fn cut(text: &str) -> String {
    let end = (0..=NOTICE_TEXT_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests;
