//! Counts of clients that come, by listener and by method of authentication. Shards write them when a client was let in or refused,
//! which no message waits for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::{Config, ListenerConfig};

#[expect(clippy::disallowed_types, reason = "counts of clients that come, which all shards write")]
type Shared<T> = std::sync::Arc<T>;

/// The methods that verdicts name.
const METHODS: [&str; 9] =
    ["anonymous", "bans", "certificate", "http", "jwt", "none", "password", "scram", "token"];

/// A handle on the counts.
#[derive(Clone, Debug)]
pub(crate) struct Tally(Shared<Counts>);

#[derive(Debug)]
struct Counts {
    /// By number of the listener.
    listeners: Box<[(String, Verdicts)]>,
    /// In the order of `METHODS`.
    methods: [Verdicts; METHODS.len()],
}

/// Clients that were let in, and clients that were refused.
#[derive(Debug, Default)]
struct Verdicts {
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    /// No client has come to the listeners of this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let listeners = config.listeners.iter().map(|listener| (name(listener), Verdicts::default()));
        Self(Shared::new(Counts { listeners: listeners.collect(), methods: Default::default() }))
    }

    /// A client of a listener was let in, or refused; `method` is the one whose verdict it was.
    pub(crate) fn count(&self, listener: usize, method: Option<&str>, is_accepted: bool) {
        if let Some((_, verdicts)) = self.0.listeners.get(listener) {
            verdicts.count(is_accepted);
        }
        let known = method.and_then(|method| METHODS.iter().position(|known| *known == method));
        if let Some(known) = known {
            self.0.methods[known].count(is_accepted);
        }
    }

    /// Each listener with the clients that it let in and refused.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (&str, [u64; 2])> {
        self.0.listeners.iter().map(|(name, verdicts)| (name.as_str(), verdicts.read()))
    }

    /// Each method with the clients that it let in and refused.
    pub(crate) fn methods(&self) -> impl Iterator<Item = (&'static str, [u64; 2])> {
        METHODS.into_iter().zip(&self.0.methods).map(|(name, verdicts)| (name, verdicts.read()))
    }
}

impl Verdicts {
    fn count(&self, is_accepted: bool) {
        if is_accepted { &self.accepted } else { &self.refused }.fetch_add(1, Relaxed);
    }

    fn read(&self) -> [u64; 2] {
        [self.accepted.load(Relaxed), self.refused.load(Relaxed)]
    }
}

/// The name of a listener as a label.
fn name(listener: &ListenerConfig) -> String {
    if listener.is_implied() { "default".to_owned() } else { listener.name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_count_by_listener_and_by_method() {
        let tally = Tally::of(&Config::default());
        tally.count(0, Some("password"), true);
        tally.count(0, Some("password"), false);
        tally.count(0, None, true);
        // No such listener and no such method: nothing is counted, and nothing panics.
        tally.count(9, Some("magic"), true);
        assert_eq!(tally.listeners().collect::<Vec<_>>(), [("default", [2, 1])]);
        let counted: Vec<_> = tally.methods().filter(|(_, counts)| *counts != [0, 0]).collect();
        assert_eq!(counted, [("password", [1, 1])]);
    }
}
