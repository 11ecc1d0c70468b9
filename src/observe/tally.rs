//! Counts of clients that come, by listener and by method of authentication. Shards write them when a client was let in or refused,
//! which no message waits for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::{Config, ListenerConfig};
use crate::net::listen::NUMBERS_MAX;

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
    listeners: Box<[(OnceLock<Place>, Verdicts)]>,
    /// In the order of `METHODS`.
    methods: [Verdicts; METHODS.len()],
}

/// The place where the clients of a listener count.
#[derive(Debug)]
enum Place {
    /// Its own, under this name.
    Own(String),
    /// That of the number which had its name before it.
    Of(usize),
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
        let listeners = (0..NUMBERS_MAX).map(|_| (OnceLock::new(), Verdicts::default()));
        let tally = Self(Shared::new(Counts { listeners: listeners.collect(), methods: Default::default() }));
        for (number, listener) in (0..).zip(&config.listeners) {
            tally.add_listener(number, number, listener);
        }
        tally
    }

    /// A listener has a new number. Its clients count with those of the number `first`, which had its name before it.
    pub(crate) fn add_listener(&self, number: u16, first: u16, config: &ListenerConfig) {
        let place = if number == first { Place::Own(name(config)) } else { Place::Of(first.into()) };
        self.0.listeners[usize::from(number)].0.set(place).expect("a number is given once");
    }

    /// A client of a listener was let in, or refused; `method` is the one whose verdict it was.
    pub(crate) fn count(&self, listener: usize, method: Option<&str>, is_accepted: bool) {
        match self.0.listeners.get(listener).and_then(|(name, _)| name.get()) {
            Some(Place::Own(_)) => self.0.listeners[listener].1.count(is_accepted),
            Some(Place::Of(first)) => self.0.listeners[*first].1.count(is_accepted),
            None => {}
        }
        let known = method.and_then(|method| METHODS.iter().position(|known| *known == method));
        if let Some(known) = known {
            self.0.methods[known].count(is_accepted);
        }
    }

    /// Each listener with the clients that it let in and refused.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (&str, [u64; 2])> {
        self.0.listeners.iter().filter_map(|(name, verdicts)| {
            let Some(Place::Own(name)) = name.get() else { return None };
            Some((name.as_str(), verdicts.read()))
        })
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
