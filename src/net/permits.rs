//! Connection permits: one count over all shards, so that `max_connections` is exact.
//! Invariant: every connection that is served or turned away holds one permit until it is closed, also while it moves
//! between two shards.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use engine::{Admission, Arrival, CauseGroup, Refused};

use crate::config::{Config, ListenerConfig};
use crate::net::addresses::{Addresses, Exempt, Network};
use crate::net::bans::Bans;
use crate::net::listen::{ListenerNumber, NUMBERS_MAX};

#[expect(clippy::disallowed_types, reason = "one count that all shards keep: connections, not messages")]
type Shared<T> = std::sync::Arc<T>;

/// The right to hold one connection. It moves with the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permit {
    pub(crate) admission: Admission,
    pub(crate) arrival: Arrival,
}

/// A handle on the counts. A connection that moves to another shard keeps its permit.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionPermits(Shared<Counts>);

#[derive(Debug)]
struct Counts {
    max: u32,
    /// The connections of each listener, by number.
    listeners: Box<[ListenerCount]>,
    /// Connections above `max` that are accepted at the same time only to be refused with a reason code.
    turned_away_max: u32,
    served: AtomicU32,
    turned_away: AtomicU32,
    /// Permits so far.
    acquired: AtomicU64,
    /// Connections that were sent all data and the end of the stream, and whose peer has not closed yet.
    lingering: AtomicU32,
    /// Connections so far for which there was no permit of either kind, by [`Refused`].
    unanswered: [AtomicU64; 4],
    exempt: Exempt,
    /// `None` without a limit by address.
    addresses: Option<Addresses>,
    bans: Bans,
    /// How listeners count and judge their clients, by number.
    ways: Box<[OnceLock<Way>]>,
}

#[derive(Debug)]
struct ListenerCount {
    /// `u32::MAX` without a maximum of its own.
    max: AtomicU32,
    served: AtomicU32,
}

/// The way in which a listener counts and judges its clients.
#[derive(Debug)]
struct Way {
    /// The number at which its connections count: of numbers with the same name, the first.
    counts_at: usize,
    /// Whether it judges its clients for bans alone.
    judges_bans_only: bool,
}

impl ConnectionPermits {
    /// Permits for `max` connections, and for `turned_away_max` more that are only told so. `listeners` are the maxima of the
    /// listeners, by their number; a listener without one has no maximum of its own. `config` has the limits by address.
    pub(crate) fn new(
        max: u32,
        listeners: impl Iterator<Item = Option<u32>>,
        turned_away_max: u32,
        config: &Config,
    ) -> Self {
        let count = |max: Option<u32>| ListenerCount {
            max: AtomicU32::new(max.unwrap_or(u32::MAX)),
            served: AtomicU32::new(0),
        };
        let ways: Box<[OnceLock<Way>]> = (0..NUMBERS_MAX).map(|_| OnceLock::new()).collect();
        for (number, listener) in config.listeners.iter().enumerate() {
            let way = Way { counts_at: number, judges_bans_only: !listener.judges() };
            ways[number].set(way).expect("nothing else is set");
        }
        Self(Shared::new(Counts {
            max,
            listeners: listeners.chain(std::iter::repeat(None)).take(NUMBERS_MAX).map(count).collect(),
            turned_away_max,
            served: AtomicU32::new(0),
            turned_away: AtomicU32::new(0),
            acquired: AtomicU64::new(0),
            lingering: AtomicU32::new(0),
            unanswered: Default::default(),
            exempt: Exempt::of(config),
            addresses: Addresses::of(config),
            bans: Bans::of(config.bans.as_ref()),
            ways,
        }))
    }

    /// A listener has a new number. Its connections count with those of the number `first`, which had its name before it.
    pub(crate) fn add_listener(&self, number: u16, first: u16, config: &ListenerConfig) {
        let counts_at = usize::from(first);
        self.0.listeners[counts_at].max.store(config.connections_max.unwrap_or(u32::MAX), Relaxed);
        let way = Way { counts_at, judges_bans_only: !config.judges() };
        self.0.ways[usize::from(number)].set(way).expect("a number is given once");
        self.0.exempt.add_listener(number, config);
    }

    /// Acquires a permit to serve a connection that shard `queue` has accepted on `listener`, or one of the few to turn it away
    /// with a reason code.
    ///
    /// # Errors
    /// Why it is refused, if there is no permit to tell it so.
    pub(crate) fn acquire(
        &self,
        queue: u16,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
        now_ms: u64,
    ) -> Result<Permit, Refused> {
        let admission = match self.serve(listener, peer, now_ms) {
            Ok(()) => Admission::Serve,
            Err(refused) => self.turn_away(refused)?,
        };
        let ordinal = self.0.acquired.fetch_add(1, Relaxed);
        Ok(Permit {
            admission,
            arrival: Arrival { ordinal, queue, port: peer.map_or(0, |peer| peer.port()) },
        })
    }

    /// A proxy has named the peer of a connection that is served. If the limits by address refuse that peer, its permit becomes one of
    /// the few to turn it away.
    ///
    /// # Errors
    /// Why it is refused, if there is none of these. It still has its permit.
    pub(crate) fn change_peer(
        &self,
        listener: ListenerNumber,
        (before, after): (Option<SocketAddr>, SocketAddr),
        now_ms: u64,
    ) -> Result<Admission, Refused> {
        let Err(refused) = self.enter(listener, Some(after), now_ms) else {
            self.leave(listener, before);
            return Ok(Admission::Serve);
        };
        let admission = self.turn_away(refused)?;
        self.release(Admission::Serve, listener, before);
        Ok(admission)
    }

    /// One of the few permits to turn a connection away.
    fn turn_away(&self, refused: Refused) -> Result<Admission, Refused> {
        if take(&self.0.turned_away, self.0.turned_away_max) {
            return Ok(Admission::TurnAway(refused));
        }
        self.0.unanswered[refused as usize].fetch_add(1, Relaxed);
        Err(refused)
    }

    /// Counts a connection for its address.
    fn enter(&self, listener: ListenerNumber, peer: Option<SocketAddr>, now_ms: u64) -> Result<(), Refused> {
        let Some(address) = self.concerned(listener, peer) else { return Ok(()) };
        if self.0.bans.has_address(address) {
            return Err(Refused::AddressBanned);
        }
        self.0.addresses.as_ref().map_or(Ok(()), |addresses| addresses.enter(Network::of(address), now_ms))
    }

    /// The address of a peer that bans and limits by address concern; `None` for an exempt one.
    pub(crate) fn concerned(&self, listener: ListenerNumber, peer: Option<SocketAddr>) -> Option<IpAddr> {
        self.0.exempt.concerned(listener, peer)
    }

    /// The bans of the process.
    pub(crate) fn bans(&self) -> &Bans {
        &self.0.bans
    }

    /// Whether the engine asks about clients of a listener for the sake of bans alone.
    pub(crate) fn judges_bans_only(&self, listener: ListenerNumber) -> bool {
        self.way(listener).is_some_and(|way| way.judges_bans_only)
    }

    /// Counts a connection for its address no longer.
    fn leave(&self, listener: ListenerNumber, peer: Option<SocketAddr>) {
        let Some(addresses) = &self.0.addresses else { return };
        if let Some(address) = self.0.exempt.concerned(listener, peer) {
            addresses.leave(Network::of(address));
        }
    }

    /// Bytes that the counts by address take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.addresses.as_ref().map_or(0, Addresses::memory_bytes) + self.0.bans.memory_bytes()
    }

    /// Counts one more connection that is served on `listener`, if no maximum is reached.
    fn serve(&self, listener: ListenerNumber, peer: Option<SocketAddr>, now_ms: u64) -> Result<(), Refused> {
        self.enter(listener, peer, now_ms)?;
        let own = self.own(listener);
        let has_own = take(&own.served, own.max.load(Relaxed));
        if has_own && take(&self.0.served, self.0.max) {
            return Ok(());
        }
        if has_own {
            own.served.fetch_sub(1, Relaxed);
        }
        self.leave(listener, peer);
        Err(Refused::Full)
    }

    /// The count of the listener.
    fn own(&self, listener: ListenerNumber) -> &ListenerCount {
        let counts_at = self.way(listener).map_or(listener.index(), |way| way.counts_at);
        &self.0.listeners[counts_at]
    }

    fn way(&self, listener: ListenerNumber) -> Option<&Way> {
        self.0.ways[listener.index()].get()
    }

    /// Releases a permit of `listener` for this peer.
    pub(crate) fn release(&self, admission: Admission, listener: ListenerNumber, peer: Option<SocketAddr>) {
        let count = match admission {
            Admission::Serve => {
                self.leave(listener, peer);
                let before = self.own(listener).served.fetch_sub(1, Relaxed);
                assert!(before > 0);
                &self.0.served
            }
            Admission::TurnAway(_) => &self.0.turned_away,
        };
        let before = count.fetch_sub(1, Relaxed);
        assert!(before > 0);
    }

    /// A connection was sent all data and the end of the stream, and waits for its peer to close.
    pub(crate) fn begin_linger(&self) {
        self.0.lingering.fetch_add(1, Relaxed);
    }

    /// Such a connection was closed.
    pub(crate) fn end_linger(&self) {
        let before = self.0.lingering.fetch_sub(1, Relaxed);
        assert!(before > 0);
    }

    /// Whether every open connection only waits for its peer to close.
    pub(crate) fn all_linger(&self) -> bool {
        self.0.lingering.load(Relaxed) >= self.in_use() + self.0.turned_away.load(Relaxed)
    }

    /// Number of connections that are served, on all shards and between them.
    pub(crate) fn in_use(&self) -> u32 {
        self.0.served.load(Relaxed)
    }

    /// Connections so far that were closed without an answer, for want of a permit, and that would have been refused for this group
    /// of causes.
    pub(crate) fn unanswered(&self, group: CauseGroup) -> u64 {
        const ALL: [Refused; 4] =
            [Refused::Full, Refused::AddressConnections, Refused::AddressRate, Refused::AddressBanned];
        let of_group = ALL.into_iter().filter(|refused| refused.cause().group() == group);
        of_group.map(|refused| self.0.unanswered[refused as usize].load(Relaxed)).sum()
    }

    /// Maximum number of connections that are served.
    pub(crate) fn max(&self) -> u32 {
        self.0.max
    }

    /// Whether no connection is open, on any shard or between two.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_use() == 0 && self.0.turned_away.load(Relaxed) == 0
    }
}

/// Adds one to `count`, unless it has reached `max`.
fn take(count: &AtomicU32, max: u32) -> bool {
    count.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNED_AWAY_MAX: u32 = 5;

    fn acquire(permits: &ConnectionPermits) -> Option<Permit> {
        permits.acquire(0, ListenerNumber::default(), None, 0).ok()
    }

    /// Permits with the limits by address of a configuration.
    fn permits(max: u32, listeners: impl Iterator<Item = Option<u32>>, config: &Config) -> ConnectionPermits {
        ConnectionPermits::new(max, listeners, TURNED_AWAY_MAX, config)
    }

    #[test]
    fn permits_are_exact_and_a_few_more_connections_are_turned_away() {
        let permits = permits(2, [None].into_iter(), &Config::default());
        assert!(permits.is_idle());
        let mut acquired: Vec<_> = (0..2 + TURNED_AWAY_MAX).map_while(|_| acquire(&permits)).collect();
        let admissions: Vec<_> = acquired.iter().map(|permit| permit.admission).collect();
        assert_eq!(admissions[..2], [Admission::Serve; 2]);
        assert_eq!(admissions[2..], [Admission::TurnAway(Refused::Full); TURNED_AWAY_MAX as usize]);
        assert!(acquire(&permits).is_none());
        permits.release(acquired.remove(0).admission, ListenerNumber::default(), None);
        acquired.push(acquire(&permits).unwrap());
        assert!(
            acquired.is_sorted_by(|one, other| one.arrival.ordinal < other.arrival.ordinal),
            "{acquired:?}"
        );
        assert_eq!(acquired.last().unwrap().admission, Admission::Serve);
        assert!(acquire(&permits).is_none());
        assert_eq!((permits.in_use(), permits.unanswered(CauseGroup::TooManyConnections)), (2, 2));
        for permit in acquired {
            assert!(!permits.is_idle() && !permits.all_linger());
            permits.release(permit.admission, ListenerNumber::default(), None);
        }
        assert!(permits.is_idle());
    }

    #[test]
    fn a_listener_with_a_maximum_leaves_the_others_their_connections() {
        let [crowded, other] = ListenerNumber::first_two();
        let permits = permits(3, [Some(1), None].into_iter(), &Config::default());
        let admission = |listener| permits.acquire(0, listener, None, 0).unwrap().admission;
        assert_eq!(
            (admission(crowded), admission(crowded)),
            (Admission::Serve, Admission::TurnAway(Refused::Full))
        );
        assert_eq!((admission(other), admission(other)), (Admission::Serve, Admission::Serve));
        assert_eq!(admission(other), Admission::TurnAway(Refused::Full));
        // A refusal for the whole broker does not count for the listener.
        permits.release(Admission::Serve, crowded, None);
        assert_eq!(admission(other), Admission::Serve);
        assert_eq!(admission(crowded), Admission::TurnAway(Refused::Full));
        permits.release(Admission::Serve, other, None);
        assert_eq!(admission(crowded), Admission::Serve);
    }

    #[test]
    fn all_linger_once_each_connection_lingers() {
        let permits = permits(1, [None].into_iter(), &Config::default());
        let acquired = [acquire(&permits), acquire(&permits)];
        permits.begin_linger();
        assert!(!permits.all_linger());
        permits.begin_linger();
        assert!(permits.all_linger());
        for permit in acquired.into_iter().flatten() {
            permits.end_linger();
            permits.release(permit.admission, ListenerNumber::default(), None);
            assert!(permits.all_linger());
        }
    }

    #[test]
    fn an_address_with_too_many_connections_takes_none_from_others() {
        let config = Config { connections_per_address_max: 1, ..Config::default() };
        let permits = permits(2, [None].into_iter(), &config);
        let listener = ListenerNumber::default();
        let [one, other]: [Option<SocketAddr>; 2] =
            ["192.0.2.1:7", "192.0.2.2:7"].map(|peer| peer.parse().ok());
        let admission = |peer| permits.acquire(0, listener, peer, 0).map(|permit| permit.admission);
        let refused = Admission::TurnAway(Refused::AddressConnections);
        assert_eq!([admission(one), admission(one)], [Ok(Admission::Serve), Ok(refused)]);
        assert_eq!((admission(other), permits.in_use()), (Ok(Admission::Serve), 2));
        // An address that is refused because the broker is full is not counted.
        let third = "192.0.2.3:7".parse().ok();
        assert_eq!(admission(third), Ok(Admission::TurnAway(Refused::Full)));
        permits.release(Admission::Serve, listener, other);
        assert_eq!(admission(third), Ok(Admission::Serve));
        for _ in 2..TURNED_AWAY_MAX {
            assert_eq!(admission(one), Ok(refused));
        }
        assert_eq!(admission(one), Err(Refused::AddressConnections));
        assert_eq!(permits.unanswered(CauseGroup::AddressLimit), 1);
        permits.release(Admission::Serve, listener, one);
        permits.release(refused, listener, one);
        assert_eq!(admission(one), Ok(Admission::Serve));
    }

    #[test]
    fn a_peer_that_a_proxy_names_is_counted_from_then_on() {
        let config = Config { connections_per_address_max: 1, ..Config::default() };
        let permits = permits(10, [None].into_iter(), &config);
        let listener = ListenerNumber::default();
        let proxy: Option<SocketAddr> = "127.0.0.1:7".parse().ok();
        let named: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let change = || {
            assert_eq!(permits.acquire(0, listener, proxy, 0).unwrap().admission, Admission::Serve);
            permits.change_peer(listener, (proxy, named), 0)
        };
        assert_eq!(change(), Ok(Admission::Serve));
        let refused = Admission::TurnAway(Refused::AddressConnections);
        assert_eq!((change(), permits.in_use()), (Ok(refused), 1));
        permits.release(refused, listener, Some(named));
        permits.release(Admission::Serve, listener, Some(named));
        assert!(permits.is_idle());
        assert_eq!(change(), Ok(Admission::Serve));
    }
}
