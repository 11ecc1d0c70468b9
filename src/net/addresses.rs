//! Limits by the address of a peer: connections at the same time, and connections a second. An address is one of IPv4, or a network
//! of 64 bits of IPv6, which one host usually has to itself.
//! Invariants: an address is counted from the moment a connection of it is served until that is closed; a table holds at most the
//! addresses with a connection and a bounded number of those that had one; loopback and trusted proxies are never counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use engine::Refused;
use ipnet::IpNet;

use crate::config::{Config, ListenerConfig};
use crate::net::listen::{ListenerNumber, NUMBERS_MAX};

#[expect(
    clippy::disallowed_types,
    reason = "shards accept connections of one address; a message never takes this lock"
)]
type Locked<T> = std::sync::Mutex<T>;

/// Parts of the table, each with a lock of its own.
const STRIPES: usize = 64;

/// Addresses without a connection that one part remembers for their rate. Of more, all are forgotten.
const IDLE_MAX: usize = 1_024;

/// Microseconds of a rate that may come at once.
const BURST_US: u64 = 1_000_000;

/// An address of IPv4, or a network of IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Network {
    /// The address.
    V4(u32),
    /// The upper half of the address.
    V6(u64),
}

impl Network {
    /// The network of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.into()),
            IpAddr::V6(address) => Self::V6(u64::try_from(u128::from(address) >> 64).unwrap_or_default()),
        }
    }

    /// Its first address.
    pub(crate) fn first(self) -> IpAddr {
        match self {
            Self::V4(address) => Ipv4Addr::from(address).into(),
            Self::V6(upper) => Ipv6Addr::from(u128::from(upper) << 64).into(),
        }
    }

    /// A number that stands for it. No network of IPv6 that is in use has that of an address of IPv4: 32 zeros are reserved.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::V4(number) => u64::from(number),
            Self::V6(number) => number,
        }
    }

    /// A part of a table, of so many.
    fn part(self, parts: usize) -> usize {
        // Neighbours, and addresses that differ in their upper bits only, come to different parts.
        let spread = self.number().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(spread).unwrap_or_default() % parts
    }
}

/// The peers that no limit by address concerns: those of this machine, and the proxies that a listener trusts.
#[derive(Debug)]
pub(crate) struct Exempt {
    /// By listener.
    trusted_proxies: Box<[OnceLock<Vec<IpNet>>]>,
}

impl Exempt {
    /// The exempt addresses of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let exempt = Self { trusted_proxies: (0..NUMBERS_MAX).map(|_| OnceLock::new()).collect() };
        for (number, listener) in (0..).zip(&config.listeners) {
            exempt.add_listener(number, listener);
        }
        exempt
    }

    /// A listener has a new number.
    pub(crate) fn add_listener(&self, number: u16, config: &ListenerConfig) {
        let trusted = &self.trusted_proxies[usize::from(number)];
        trusted.set(config.trusted_proxies.clone()).expect("a number is given once");
    }

    /// The address that limits concern; `None` for an exempt peer.
    pub(crate) fn concerned(&self, listener: ListenerNumber, peer: Option<SocketAddr>) -> Option<IpAddr> {
        let address = peer?.ip().to_canonical();
        let proxies = self.trusted_proxies[listener.index()].get();
        let is_trusted =
            proxies.is_some_and(|proxies| proxies.iter().any(|network| network.contains(&address)));
        (!address.is_loopback() && !is_trusted).then_some(address)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    connections: u32,
    /// When the rate of the address has its whole burst again.
    full_at_us: u64,
}

#[derive(Debug, Default)]
struct Part {
    known: BTreeMap<Network, Known>,
    /// Known addresses without a connection.
    idle: usize,
}

/// **Lives on:** every thread that accepts.
#[derive(Debug)]
pub(crate) struct Addresses {
    connections_max: u32,
    /// Microseconds between two connections.
    interval_us: u64,
    parts: Box<[Locked<Part>]>,
    /// Addresses in all parts.
    count: AtomicU64,
}

impl Addresses {
    /// The table of a configuration; `None` without a limit.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let (connections_max, rate) = (config.connections_per_address_max, config.connects_per_address_rate);
        (connections_max > 0 || rate > 0).then(|| Self::new(connections_max, rate))
    }

    /// A table with these limits; 0: none.
    fn new(connections_max: u32, rate: u32) -> Self {
        Self {
            connections_max: if connections_max == 0 { u32::MAX } else { connections_max },
            interval_us: BURST_US.checked_div(rate.into()).unwrap_or(0),
            parts: (0..STRIPES).map(|_| Locked::default()).collect(),
            count: AtomicU64::new(0),
        }
    }

    /// A connection of this network begins. It has to [leave](Self::leave) if it is not refused.
    ///
    /// # Errors
    /// The reason to refuse it.
    pub(crate) fn enter(&self, network: Network, now_ms: u64) -> Result<(), Refused> {
        self.change(network, |part| part.enter(self, network, now_ms * 1_000))
    }

    /// A connection of this network ends.
    pub(crate) fn leave(&self, network: Network) {
        self.change(network, |part| part.leave(self, network));
    }

    /// Bytes that the table takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let count = usize::try_from(self.count.load(Relaxed)).unwrap_or(usize::MAX);
        // Nodes of such a tree are two thirds full.
        let entry = size_of::<(Network, Known)>() * 3 / 2;
        STRIPES * size_of::<Locked<Part>>() + count.saturating_mul(entry)
    }

    fn change<R>(&self, network: Network, change: impl FnOnce(&mut Part) -> R) -> R {
        let part = &self.parts[network.part(self.parts.len())];
        let mut part = part.lock().expect("no thread panics while it holds the lock");
        let before = part.known.len() as u64;
        let changed = change(&mut part);
        // Wraps where the part has shrunk.
        self.count.fetch_add((part.known.len() as u64).wrapping_sub(before), Relaxed);
        changed
    }
}

impl Part {
    fn enter(&mut self, limits: &Addresses, network: Network, now_us: u64) -> Result<(), Refused> {
        let mut known = self.known.get(&network).copied().unwrap_or_default();
        if known.connections >= limits.connections_max {
            return Err(Refused::AddressConnections);
        }
        let full_at_us = known.full_at_us.max(now_us) + limits.interval_us;
        // One is let in however slow the rate is.
        if full_at_us - now_us > BURST_US.max(limits.interval_us) {
            return Err(Refused::AddressRate);
        }
        if known.connections == 0 && known.full_at_us > 0 {
            self.idle -= 1;
        }
        known = Known { connections: known.connections + 1, full_at_us };
        self.known.insert(network, known);
        if self.idle > IDLE_MAX {
            self.forget_idle(now_us);
        }
        Ok(())
    }

    fn leave(&mut self, limits: &Addresses, network: Network) {
        let known = self.known.get_mut(&network);
        assert!(known.as_ref().is_some_and(|known| known.connections > 0));
        let Some(known) = known else { return };
        known.connections -= 1;
        if known.connections > 0 {
            return;
        }
        if limits.interval_us == 0 {
            self.known.remove(&network);
        } else {
            self.idle += 1;
        }
    }

    /// Forgets addresses without a connection: those whose rate has its whole burst again, or all, if these are too few.
    fn forget_idle(&mut self, now_us: u64) {
        self.known.retain(|_, known| known.connections > 0 || known.full_at_us > now_us);
        self.idle = self.known.values().filter(|known| known.connections == 0).count();
        if self.idle > IDLE_MAX / 2 {
            self.known.retain(|_, known| known.connections > 0);
            self.idle = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_one_of_ipv4_or_a_network_of_ipv6() {
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        let parts: std::collections::BTreeSet<usize> =
            (0..1_000).map(|number| Network::V4(number << 8).part(STRIPES)).collect();
        assert!(parts.len() > STRIPES / 2, "{}", parts.len());
    }

    #[test]
    fn connections_of_one_address_are_bounded_and_others_are_not_concerned() {
        let addresses = Addresses::new(2, 0);
        let (one, other) = (network("192.0.2.1"), network("192.0.2.2"));
        let enter = |network| addresses.enter(network, 0);
        assert_eq!([enter(one), enter(one), enter(one)], [Ok(()), Ok(()), Err(Refused::AddressConnections)]);
        assert_eq!(enter(other), Ok(()));
        addresses.leave(one);
        assert_eq!([enter(one), enter(one)], [Ok(()), Err(Refused::AddressConnections)]);
        for network in [one, one, other] {
            addresses.leave(network);
        }
        assert_eq!(addresses.count.load(Relaxed), 0);
    }

    #[test]
    fn a_burst_of_one_second_is_let_in_and_then_the_rate() {
        let addresses = Addresses::new(0, 4);
        let one = network("2001:db8::1");
        let admitted = |now_ms: u64| {
            let let_in = (0..100).filter(|_| addresses.enter(one, now_ms).is_ok()).count();
            (0..let_in).for_each(|_| addresses.leave(one));
            let_in
        };
        assert_eq!([admitted(5_000), admitted(5_249), admitted(5_250), admitted(6_000)], [4, 0, 1, 3]);
        assert_eq!(admitted(60_000), 4);
        assert_eq!(addresses.enter(network("2001:db8:1::1"), 60_000), Ok(()));
    }

    #[test]
    fn addresses_without_a_connection_are_forgotten() {
        let addresses = Addresses::new(0, 1);
        let stays = network("192.0.2.1");
        addresses.enter(stays, 0).unwrap();
        for number in 0..1_000_000 {
            let network = Network::V6(number);
            addresses.enter(network, 0).unwrap();
            addresses.leave(network);
        }
        let most = (STRIPES * (IDLE_MAX + 1) + 1) as u64;
        assert!(addresses.count.load(Relaxed) <= most, "{}", addresses.count.load(Relaxed));
        assert!(addresses.memory_bytes() < 8 * 1024 * 1024);
        // The one with a connection is still known.
        assert_eq!(addresses.enter(stays, 0), Err(Refused::AddressRate));
        addresses.leave(stays);
    }

    #[test]
    fn loopback_and_trusted_proxies_are_exempt() {
        let mut config = Config::default();
        config.listeners[0].trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let exempt = Exempt::of(&config);
        let concerned =
            |peer: &str| exempt.concerned(ListenerNumber::default(), Some(peer.parse().unwrap())).is_some();
        assert_eq!(
            ["127.0.0.9:1", "[::1]:1", "10.9.9.9:1", "[::ffff:10.1.1.1]:1"].map(concerned),
            [false; 4]
        );
        assert_eq!(["11.0.0.1:1", "[2001:db8::1]:1"].map(concerned), [true; 2]);
        assert_eq!(exempt.concerned(ListenerNumber::default(), None), None);
        let [_, other] = ListenerNumber::first_two();
        assert!(exempt.concerned(other, Some("10.9.9.9:1".parse().unwrap())).is_some());
    }
}
