//! The change of the configuration while the broker runs: on SIGHUP, by `mqtt-broker reload`, once a minute if a file has changed, and back
//! again by `mqtt-broker rollback`.
//!
//! Invariants worth naming:
//! - Everything is read and checked first, and a fault there changes nothing. Afterwards nothing can fail.
//! - Keys that need a restart keep their values, and each reload names those that differ.
//! - The files of TLS and of users are read by those who serve them; here they are checked before, so that one with a fault refuses
//!   the whole reload.

use std::collections::VecDeque;

use engine::{LiveLimits, SharedRules};
use tracing::{info, warn};

use crate::admin::operator::{Answer, CertificateRow};
use crate::auth;
use crate::authorization::{self, Loaded, watch::Watch};
use crate::config::diff::{Difference, Keys};
use crate::config::limits::BansConfig;
use crate::config::{Config, ConfigError, Effective, LogLevel};
use crate::net::tls::{Expiry, ListenerTls, Rotation};
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
    limits: LiveLimits,
    bans: Option<BansConfig>,
    level: LogLevel,
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
        (shard_count, state): (u16, ServiceState),
        read: F,
    ) -> Self {
        let current = Generation::of(effective, rules, shard_count);
        let watch = Watch::new(authorization::files(effective));
        let started = effective.config.clone();
        Self { rotation: Rotation::default(), watch, read, started, current, history: VecDeque::new(), state }
    }

    /// The keys in force behind `after`, a page of them.
    pub(crate) fn configuration(&self, after: Option<&str>) -> Answer {
        let (rows, next) = self.current.keys.page(after);
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
        let listeners = self.rotation.listeners();
        let rows = listeners.iter().flat_map(|tls| {
            let expiries = tls.expiries();
            expiries.iter().map(|expiry| row(tls, expiry)).collect::<Vec<_>>()
        });
        rows.collect()
    }

    /// Looks after the TLS of these listeners too.
    pub(crate) fn watch_tls(&mut self, rotation: Rotation) {
        self.rotation = rotation;
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
        let listeners = self.rotation.check().map_err(|fault| vec![fault.to_string()])?;
        auth::check(&self.started).map_err(|error| vec![error.to_string()])?;

        let next = Generation::of(&effective, rules, shards.count());
        let differences = self.current.keys.differences(&next.keys);
        let reloaded = Reloaded { generation: 0, differences, listeners };
        if is_dry {
            return Ok(reloaded);
        }
        if self.rotation.look() {
            shards.close_revoked();
        }
        shards.read_users();
        self.watch.look();
        self.watch.replace(authorization::files(&effective));
        if reloaded.differences.iter().any(|difference| difference.is_live) {
            let before = self.current.clone();
            self.history.push_back(before);
            self.history.drain(..self.history.len().saturating_sub(HISTORY_MAX));
        }
        self.apply(next, shards, log);
        Ok(reloaded)
    }

    /// Puts the live keys of the generation before into force again. The content of the files of TLS and of users stays.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn roll_back(&mut self, shards: &Shards, log: &mut Logging) -> Result<Reloaded, Vec<String>> {
        let Some(before) = self.history.pop_back() else {
            return Err(vec!["there is no generation to go back to: no reload has changed a key since the start, or all that are \
                             remembered are rolled back"
                .to_owned()]);
        };
        let differences = self.current.keys.differences(&before.keys);
        self.apply(before, shards, log);
        self.state.count_reload(true);
        Ok(Reloaded { generation: self.state.config_generation(), differences, listeners: Vec::new() })
    }

    fn apply(&mut self, next: Generation, shards: &Shards, log: &mut Logging) {
        // Rules may have changed in their own file, which no key shows.
        shards.change_rules(next.rules.as_ref());
        if next.limits != self.current.limits {
            shards.change_limits(&next.limits);
        }
        shards.bans().change(next.bans.as_ref());
        if next.level != self.current.level {
            log.set_level(next.level);
        }
        let Generation { keys, rules, limits, bans, level } = next;
        self.current.keys.take_live(&keys);
        self.current =
            Generation { keys: std::mem::take(&mut self.current.keys), rules, limits, bans, level };
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
    fn of(effective: &Effective, rules: Option<SharedRules>, shard_count: u16) -> Self {
        let mut config = effective.config.clone();
        // Its clients are judged after a reload as before.
        config.add_operators_listener();
        let limits = config.engine_limits(shard_count).live();
        Self { keys: Keys::of(effective), rules, limits, bans: config.bans, level: config.log_level }
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
