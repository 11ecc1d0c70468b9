//! The files that the running broker reads again: of TLS, users, keys and rules, once a minute and on SIGHUP. A fault changes nothing.

use std::path::PathBuf;

use engine::SharedRules;
use tracing::{info, warn};

use crate::authorization::watch::Watch;
use crate::config::ConfigError;
use crate::net::tls::Rotation;
use crate::observe::service_state::ServiceState;
use crate::shard::control::Shards;

/// The rules about topics, if there are some, and the files that they are written in.
pub(crate) type ReadRules = (Option<SharedRules>, Vec<PathBuf>);

/// The files of TLS and of the rules; those of users and keys are the side thread's. **Lives on:** the control plane.
pub(crate) struct Reloads<F> {
    rotation: Rotation,
    watch: Watch,
    /// Reads the rules again.
    read_rules: F,
    state: ServiceState,
}

impl<F: Fn() -> Result<ReadRules, Vec<ConfigError>>> Reloads<F> {
    /// With everything as it was read at the start.
    pub(crate) fn new(rotation: Rotation, watch: Watch, read_rules: F, state: ServiceState) -> Self {
        Self { rotation, watch, read_rules, state }
    }

    /// A second has passed.
    pub(crate) fn second(&mut self, shards: &Shards) {
        if self.rotation.second() {
            shards.close_revoked();
        }
        if self.watch.second() && self.change_rules(shards, "a file has changed") {
            info!("the rules about topics have changed in their files, and are in force");
        }
    }

    /// SIGHUP came.
    pub(crate) fn hang_up(&mut self, shards: &Shards) {
        if self.rotation.look() {
            shards.close_revoked();
        }
        shards.read_users();
        self.watch.look();
        if self.change_rules(shards, "SIGHUP") {
            warn!(
                "SIGHUP: the rules about topics and the files of TLS, users and keys are read again; this version cannot reload \
                 the rest of its configuration, whose changes a restart applies (systemctl restart mqtt-broker)"
            );
        }
    }

    /// Puts the rules that are read again into force, because of `cause`. If they have a fault, those before stay. Returns whether they
    /// have none.
    fn change_rules(&mut self, shards: &Shards, cause: &str) -> bool {
        let read = (self.read_rules)();
        self.state.count_reload(read.is_ok());
        match read {
            Ok((rules, files)) => {
                shards.change_rules(rules.as_ref());
                self.watch.replace(files);
                true
            }
            Err(errors) => {
                for error in errors {
                    warn!(%error, "{cause}: the rules stay as they are, because the configuration has an error");
                }
                false
            }
        }
    }
}
