//! The change of the configuration while the broker runs: on SIGHUP, by `mqtt-broker reload`, once a minute if a file has changed, and back
//! again by `mqtt-broker rollback`.
//!
//! Invariants worth naming:
//! - Everything is read and checked first, and a fault there changes nothing. Afterwards nothing can fail.
//! - A listener that changes serves new connections by its new keys. Open connections stay, unless no listener has that name any more.
//! - Keys that need a restart keep their values, and each reload names those that differ.
//! - The files of TLS and of users are read by those who serve them; here they are checked before, so that one with a fault refuses
//!   the whole reload.

use std::collections::VecDeque;

use engine::{LiveLimits, SharedRules};
use tracing::{info, warn};

use crate::admin::operator::{Answer, CertificateRow, page_of_keys};
use crate::auth;
use crate::authorization::{self, Loaded, watch::Watch};
use crate::config::diff::{Difference, Keys};
use crate::config::{Config, ConfigError, Effective, ListenerConfig};
use crate::net::listen::{Listeners, Prepared, Wanted};
use crate::net::tls::{Expiry, HandshakeCounts, ListenerTls, Rotation};
use crate::observe::service_state::ServiceState;
use crate::process::logging::Logging;
use crate::shard::control::Shards;

/// Generations that a rollback can go back.
const HISTORY_MAX: usize = 5;

/// The configuration and the origin of each value, read anew.
pub(crate) type Read = Result<Effective, Vec<ConfigError>>;

/// The part of a configuration that changes while the broker runs.
#[derive(Clone)]
struct Generation {
    keys: Keys,
    rules: Option<SharedRules>,
    /// Of its keys, only those that are live count.
    config: Config,
    listeners: Vec<Wanted>,
}

/// The result of a reload or a rollback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// The number of the generation in force.
    pub(crate) generation: u64,
    /// The keys that differ.
    pub(crate) differences: Vec<Difference>,
    /// The listeners whose certificates or lists have another content.
    pub(crate) listeners: Vec<String>,
}

/// **Lives on:** the control plane.
pub(crate) struct Reloads<F> {
    rotation: Rotation,
    watch: Watch,
    /// Reads the configuration again.
    read: F,
    /// The configuration that the broker was started with. The files of TLS and of users stay those that it names.
    started: Config,
    current: Generation,
    limits: Option<LiveLimits>,
    listeners: Option<Listeners>,
    /// The generations before, the oldest first.
    history: VecDeque<Generation>,
    /// Counts the reloads: each is a generation.
    state: ServiceState,
}

impl<F: Fn() -> Read> Reloads<F> {
    /// With everything as it was read at the start.
    pub(crate) fn new(
        effective: &Effective,
        rules: Option<SharedRules>,
        state: ServiceState,
        read: F,
    ) -> Self {
        let current = Generation::of(effective, rules);
        let watch = Watch::new(authorization::files(effective));
        let started = effective.config.clone();
        Self {
            rotation: Rotation::default(),
            watch,
            read,
            started,
            current,
            limits: None,
            listeners: None,
            history: VecDeque::new(),
            state,
        }
    }

    /// The keys in force behind `after`, a page of them.
    pub(crate) fn configuration(&self, after: Option<&str>) -> Answer {
        let (rows, next) = page_of_keys(&self.current.keys, after);
        Answer::Configuration { rows, next }
    }

    /// Certificates and lists of revoked ones, of every listener and of `[admin]`.
    pub(crate) fn certificates(&self) -> Vec<CertificateRow> {
        let row = |tls: &ListenerTls, expiry: &Expiry| CertificateRow {
            listener: tls.name().to_owned(),
            file: expiry.file.display().to_string(),
            is_list: expiry.is_list,
            ends_at_s: expiry.at_s,
        };
        let rows = self.rotation.in_force().flat_map(|tls| {
            let expiries = tls.expiries();
            expiries.iter().map(|expiry| row(tls, expiry)).collect::<Vec<_>>()
        });
        rows.collect()
    }

    /// Looks after these listeners too. `config` has the addresses that are left of those of the start.
    pub(crate) fn watch_listeners(&mut self, rotation: Rotation, config: &Config, shards: &Shards) {
        self.rotation = rotation;
        let (sockets, tables) = shards.listeners();
        let listeners = Listeners::of(&self.started, config, shards.count(), sockets, tables.clone());
        self.limits = Some(listeners.limits(&self.started, None));
        self.listeners = Some(listeners);
    }

    /// Removes the sockets of the broker from the file system.
    pub(crate) fn remove_sockets(&self) {
        self.listeners.iter().for_each(Listeners::remove_sockets);
    }

    /// The handshakes of TLS of all listeners so far.
    pub(crate) fn tls_handshakes(&self) -> HandshakeCounts {
        self.rotation.handshakes()
    }

    /// A second has passed.
    pub(crate) fn second(&mut self, shards: &Shards, log: &mut Logging) {
        if self.rotation.second() {
            shards.close_revoked();
        }
        if self.watch.second() {
            self.log_reload("a file has changed", shards, log);
        }
    }

    /// SIGHUP came.
    pub(crate) fn hang_up(&mut self, shards: &Shards, log: &mut Logging) {
        self.log_reload("SIGHUP", shards, log);
    }

    /// Reads everything again and puts it into force, or only tells what would change.
    ///
    /// # Errors
    /// Every fault as a sentence with its place and its remedy. Nothing has changed then.
    pub(crate) fn reload(
        &mut self,
        is_dry: bool,
        shards: &Shards,
        log: &mut Logging,
    ) -> Result<Reloaded, Vec<String>> {
        let reloaded = self.read_again(is_dry, shards, log);
        if !is_dry {
            self.state.count_reload(reloaded.is_ok());
        }
        reloaded.map(|reloaded| Reloaded { generation: self.state.config_generation(), ..reloaded })
    }

    fn read_again(
        &mut self,
        is_dry: bool,
        shards: &Shards,
        log: &mut Logging,
    ) -> Result<Reloaded, Vec<String>> {
        let sentences = |errors: Vec<ConfigError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let effective = (self.read)().map_err(sentences)?;
        let rules = authorization::load(&effective).map_err(sentences)?.map(Loaded::share);
        let next = Generation::of(&effective, rules);
        let planned = self.prepare(&next, true)?;
        let goes_on = |tls: &ListenerTls| {
            let (listeners, planned) = (self.listeners.as_ref(), planned.as_ref());
            listeners.zip(planned).is_none_or(|(listeners, planned)| listeners.keeps(planned, tls))
        };
        let listeners = self.rotation.check(goes_on).map_err(|fault| vec![fault.to_string()])?;
        auth::check(&self.started).map_err(|error| vec![error.to_string()])?;

        let differences = self.current.keys.differences(&next.keys);
        let reloaded = Reloaded { generation: 0, differences, listeners };
        if is_dry {
            return Ok(reloaded);
        }
        // The last that can fail.
        let prepared = self.prepare(&next, false)?;
        shards.read_users();
        self.watch.look();
        self.watch.replace(authorization::files(&effective));
        if reloaded.differences.iter().any(|difference| difference.is_live) {
            let before = self.current.clone();
            self.history.push_back(before);
            self.history.drain(..self.history.len().saturating_sub(HISTORY_MAX));
        }
        self.apply(next, prepared, shards, log);
        if self.rotation.look() {
            shards.close_revoked();
        }
        Ok(reloaded)
    }

    /// Reads and binds what the listeners of a generation need.
    fn prepare(&self, next: &Generation, is_dry: bool) -> Result<Option<Prepared>, Vec<String>> {
        let Some(listeners) = &self.listeners else { return Ok(None) };
        listeners.prepare(&next.listeners, &self.rotation, is_dry).map_err(|fault| vec![fault])
    }

    /// Puts the live keys of the generation before into force again. The content of the files of TLS and of users stays.
    ///
    /// # Errors
    /// If there is none, or if its listeners cannot be had again. Nothing has changed then.
    pub(crate) fn roll_back(&mut self, shards: &Shards, log: &mut Logging) -> Result<Reloaded, Vec<String>> {
        let Some(before) = self.history.pop_back() else {
            return Err(vec!["there is no generation to go back to: no reload has changed a key since the start, or all that are \
                             remembered are rolled back"
                .to_owned()]);
        };
        let prepared = match self.prepare(&before, false) {
            Ok(prepared) => prepared,
            Err(faults) => {
                self.history.push_back(before);
                return Err(faults);
            }
        };
        let differences = self.current.keys.differences(&before.keys);
        self.apply(before, prepared, shards, log);
        self.state.count_reload(true);
        Ok(Reloaded { generation: self.state.config_generation(), differences, listeners: Vec::new() })
    }

    fn apply(
        &mut self,
        mut next: Generation,
        prepared: Option<Prepared>,
        shards: &Shards,
        log: &mut Logging,
    ) {
        // Rules may have changed in their own file, which no key shows.
        shards.change_rules(next.rules.as_ref());
        // Before the shards accept for a listener, they have its limits.
        let limits =
            self.listeners.as_ref().map(|listeners| listeners.limits(&next.config, prepared.as_ref()));
        if let Some(limits) = limits.as_ref().filter(|limits| self.limits.as_ref() != Some(limits)) {
            shards.change_limits(limits);
        }
        self.limits = limits;
        if let (Some(listeners), Some(prepared)) = (&mut self.listeners, prepared) {
            let admit = |number, first, config: &ListenerConfig| shards.admit_listener(number, first, config);
            let (tables, changes) = listeners.apply(prepared, &mut self.rotation, admit);
            shards.change_listeners(&tables, changes);
        }
        shards.bans().change(next.config.bans.as_ref());
        if next.config.log_level != self.current.config.log_level {
            log.set_level(next.config.log_level);
        }
        let mut keys = std::mem::take(&mut self.current.keys);
        keys.take_live(&next.keys);
        next.keys = keys;
        self.current = next;
    }

    fn log_reload(&mut self, cause: &str, shards: &Shards, log: &mut Logging) {
        match self.reload(false, shards, log) {
            Ok(reloaded) => log_differences(cause, &reloaded),
            Err(faults) => {
                for fault in faults {
                    warn!(%fault, "{cause}: everything stays as it is, because the configuration has a fault");
                }
            }
        }
    }
}

impl Generation {
    fn of(effective: &Effective, rules: Option<SharedRules>) -> Self {
        let config = effective.config.clone();
        let tables = effective.tables().iter().filter(|table| table.header == "[[listener]]");
        let mut places = tables.map(|table| table.origin.to_string());
        let wanted = |config: &ListenerConfig| {
            let place = places.next().unwrap_or_else(|| effective.origin("bind").to_string());
            Wanted { config: config.clone(), place }
        };
        let listeners = config.listeners.iter().map(wanted).collect();
        Self { keys: Keys::of(effective), rules, config, listeners }
    }
}

/// Logs a reload in one line, and the keys that need a restart in another.
pub(crate) fn log_differences(cause: &str, reloaded: &Reloaded) {
    let keys = |is_live: bool| {
        let meant = reloaded.differences.iter().filter(|difference| difference.is_live == is_live);
        meant.map(|difference| &*difference.key).collect::<Vec<_>>().join(" ")
    };
    info!(
        generation = reloaded.generation,
        changed = keys(true),
        "{cause}: the rules about topics, the other live keys and the files of TLS, users and keys are read again"
    );
    let waiting = keys(false);
    if !waiting.is_empty() {
        warn!(keys = waiting, "these keys keep their values until a restart (systemctl restart mqtt-broker)");
    }
}
