//! The address of the peer and the time of the start of each connection, for the log: the system forgets the address when
//! the peer is gone.
//! Invariant: they lie apart from the sockets, because no message needs them; a peer with IPv4 costs twelve bytes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// **Lives on:** the shard. **Sees:** the slots of its connections.
#[derive(Default)]
pub(super) struct Peers {
    by_slot: Vec<Peer>,
    /// By slot, for peers with IPv6.
    v6: BTreeMap<u32, SocketAddrV6>,
    /// By slot, for clients whose certificate a proxy has verified: its common name.
    names: BTreeMap<u32, Box<str>>,
}

#[derive(Clone, Copy)]
struct Peer {
    address: Address,
    /// Tenths of a second since the start of the process.
    since_ds: u32,
}

#[derive(Clone, Copy)]
enum Address {
    Unknown,
    V4([u8; 4], u16),
    V6,
}

const _: () = assert!(size_of::<Peer>() == 12);

impl Peers {
    /// Records the peer of a connection that begins.
    pub(super) fn set(&mut self, slot: u32, peer: Option<SocketAddr>, now_ms: u64) {
        let address = match peer {
            None => Address::Unknown,
            Some(SocketAddr::V4(peer)) => Address::V4(peer.ip().octets(), peer.port()),
            Some(SocketAddr::V6(peer)) => {
                self.v6.insert(slot, peer);
                Address::V6
            }
        };
        let index = slot as usize;
        if self.by_slot.len() <= index {
            self.by_slot.resize(index + 1, Peer { address: Address::Unknown, since_ds: 0 });
        }
        self.by_slot[index] = Peer { address, since_ds: u32::try_from(now_ms / 100).unwrap_or(u32::MAX) };
    }

    /// A connection turns out to have another peer.
    pub(super) fn change(&mut self, slot: u32, peer: SocketAddr) {
        let since_ds = self.by_slot.get(slot as usize).map_or(0, |peer| peer.since_ds);
        self.forget_address(slot);
        self.set(slot, Some(peer), u64::from(since_ds) * 100);
    }

    /// A proxy has verified the certificate of a client.
    pub(super) fn set_name(&mut self, slot: u32, name: Box<str>) {
        self.names.insert(slot, name);
    }

    /// The common name in the certificate that a proxy has verified.
    pub(super) fn name(&self, slot: u32) -> Option<&str> {
        self.names.get(&slot).map(|name| &**name)
    }

    /// Forgets the peer of a connection that has ended.
    pub(super) fn forget(&mut self, slot: u32) {
        self.forget_address(slot);
        self.names.remove(&slot);
    }

    fn forget_address(&mut self, slot: u32) {
        if let Some(Peer { address, .. }) = self.by_slot.get_mut(slot as usize)
            && matches!(std::mem::replace(address, Address::Unknown), Address::V6)
        {
            self.v6.remove(&slot);
        }
    }

    /// The address of a peer; `None` if the peer was gone before it could be known.
    pub(super) fn address(&self, slot: u32) -> Option<SocketAddr> {
        match self.by_slot.get(slot as usize)?.address {
            Address::Unknown => None,
            Address::V4(octets, port) => Some(SocketAddrV4::new(Ipv4Addr::from(octets), port).into()),
            Address::V6 => self.v6.get(&slot).map(|peer| (*peer).into()),
        }
    }

    /// Milliseconds since the connection began, to a tenth of a second.
    pub(super) fn age_ms(&self, slot: u32, now_ms: u64) -> u64 {
        let since_ds = self.by_slot.get(slot as usize).map_or(0, |peer| peer.since_ds);
        (now_ms / 100).saturating_sub(since_ds.into()) * 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_of_both_families_are_remembered_until_they_are_forgotten() {
        let mut peers = Peers::default();
        let v4: SocketAddr = "192.0.2.7:1234".parse().unwrap();
        let v6: SocketAddr = "[fe80::1%3]:1234".parse().unwrap();
        peers.set(5, Some(v4), 1_000);
        peers.set(2, Some(v6), 2_000);
        peers.set(3, None, 2_000);
        assert_eq!([5, 2, 3, 4, 99].map(|slot| peers.address(slot)), [Some(v4), Some(v6), None, None, None]);
        assert_eq!((peers.age_ms(5, 3_456), peers.age_ms(2, 1_000)), (2_400, 0));
        peers.set_name(5, "meter-7".into());
        peers.change(5, v6);
        assert_eq!((peers.name(5), peers.name(2)), (Some("meter-7"), None));
        peers.change(2, v4);
        assert_eq!((peers.address(5), peers.address(2), peers.age_ms(5, 3_456)), (Some(v6), Some(v4), 2_400));
        peers.forget(2);
        peers.forget(5);
        assert_eq!((peers.address(2), peers.address(5)), (None, None));
        assert!(peers.v6.is_empty() && peers.names.is_empty());
        // The slot is used again.
        peers.set(2, Some(v4), 3_000);
        assert_eq!(peers.address(2), Some(v4));
    }
}
