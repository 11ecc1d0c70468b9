//! Clients that live longer than the broker: they keep what the standard has them keep, and go on where they were.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::harness::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Properties, Publish, Version, acknowledgement, subscribe,
};
use crate::harness::peer::Peer;
use crate::harness::received::Received;

/// Messages of a publisher that are not acknowledged to their end.
const WINDOW: usize = 16;

/// A message, by its publisher and its number.
pub(crate) type Numbered = (String, u64);

/// A publisher with a session that lasts.
pub(crate) struct Publisher {
    name: String,
    qos: u8,
    next: u64,
    /// By packet identifier: the number of the message, and whether it was received and is to be released.
    in_flight: BTreeMap<u16, (u64, bool)>,
    has_session: bool,
    /// Numbers that the broker has taken over.
    pub(crate) acknowledged: BTreeSet<u64>,
}

impl Publisher {
    pub(crate) fn new(name: &str, qos: u8) -> Self {
        let (in_flight, acknowledged) = (BTreeMap::new(), BTreeSet::new());
        Self { name: name.to_owned(), qos, next: 1, in_flight, has_session: false, acknowledged }
    }

    /// The numbers that were sent at least once.
    pub(crate) fn sent(&self) -> u64 {
        self.next - 1
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Publishes until the broker is gone; with `is_last` only ends what is in flight. `progress` counts acknowledgements.
    pub(crate) fn run(&mut self, address: SocketAddr, is_last: bool, progress: &AtomicUsize) {
        let Some(mut peer) = connect(address, &self.name, &mut self.has_session) else { return };
        let mut by_number: Vec<_> =
            self.in_flight.iter().map(|(&id, &(number, is_received))| (number, id, is_received)).collect();
        by_number.sort_unstable();
        for (number, id, is_received) in by_number {
            if is_received {
                peer.send_ignoring_errors(&acknowledgement(PUBREL, id));
            } else {
                self.send(&mut peer, number, id, true);
            }
        }
        loop {
            while !is_last && self.in_flight.len() < WINDOW {
                let number = self.next;
                self.next += 1;
                let id = u16::try_from(number % 60_000).expect("it is below 65,536") + 1;
                self.in_flight.insert(id, (number, false));
                self.send(&mut peer, number, id, false);
            }
            if is_last && self.in_flight.is_empty() {
                return;
            }
            match peer.next_or_close() {
                None | Some(Received::Disconnect { .. }) => return,
                Some(
                    Received::PubAck { packet_id, reason, .. } | Received::PubComp { packet_id, reason, .. },
                ) => {
                    assert!(reason < 0x80 || reason == 0x92, "{reason:#04x}");
                    let (number, _) = self.in_flight.remove(&packet_id).expect("it was in flight");
                    self.acknowledged.insert(number);
                    progress.fetch_add(1, Relaxed);
                }
                Some(Received::PubRec { packet_id, reason, .. }) => {
                    assert!(reason < 0x80, "{reason:#04x}");
                    let (number, is_received) = self.in_flight.get_mut(&packet_id).expect("it was in flight");
                    *is_received = true;
                    self.acknowledged.insert(*number);
                    peer.send_ignoring_errors(&acknowledgement(PUBREL, packet_id));
                }
                Some(other) => panic!("{} was sent {other:?}", self.name),
            }
        }
    }

    fn send(&self, peer: &mut Peer, number: u64, id: u16, dup: bool) {
        let (topic, payload) = (format!("t/{}", self.name), number.to_string());
        let mut publish = Publish::new(&topic, self.qos, payload.as_bytes()).with_packet_id(id);
        publish.dup = dup;
        peer.send_ignoring_errors(&publish.encode(Version::V5));
    }
}

/// A subscriber with a session that lasts.
pub(crate) struct Subscriber {
    name: String,
    has_session: bool,
    /// QoS 2 messages that were received and not released.
    unreleased: BTreeSet<u16>,
    /// Filters whose SUBACK came.
    pub(crate) filters: BTreeSet<String>,
    /// Messages in the order of their first arrival.
    pub(crate) received: Vec<Numbered>,
    /// Messages that arrived more than once.
    pub(crate) repeated: Vec<Numbered>,
    seen: BTreeSet<Numbered>,
}

impl Subscriber {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            has_session: false,
            unreleased: BTreeSet::new(),
            filters: BTreeSet::new(),
            received: Vec::new(),
            repeated: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Subscribes to `filter`, and receives until the broker is gone or `is_enough` says so.
    pub(crate) fn run(
        &mut self,
        address: SocketAddr,
        filter: Option<&str>,
        is_enough: impl Fn(&Self) -> bool,
    ) {
        let Some(mut peer) = connect(address, &self.name, &mut self.has_session) else { return };
        if let Some(filter) = filter {
            let packet = subscribe(Version::V5, 9, &[(filter, 2)], &Properties::new());
            peer.send_ignoring_errors(&packet);
        }
        while !is_enough(self) {
            match peer.next_or_close() {
                None | Some(Received::Disconnect { .. }) => return,
                Some(Received::SubAck { reasons, .. }) => {
                    assert_eq!(reasons, [2]);
                    self.filters.extend(filter.map(str::to_owned));
                }
                Some(Received::Publish(message)) => {
                    let id = message.packet_id;
                    let publisher = message.topic.trim_start_matches("t/").to_owned();
                    let number = (publisher, message.text().parse().expect("a payload is a number"));
                    if message.qos == 2 {
                        if self.unreleased.insert(id) {
                            self.note(number);
                        }
                        peer.send_ignoring_errors(&acknowledgement(PUBREC, id));
                    } else {
                        self.note(number);
                        peer.send_ignoring_errors(&acknowledgement(PUBACK, id));
                    }
                }
                Some(Received::PubRel { packet_id, .. }) => {
                    self.unreleased.remove(&packet_id);
                    peer.send_ignoring_errors(&acknowledgement(PUBCOMP, packet_id));
                }
                Some(other) => panic!("{} was sent {other:?}", self.name),
            }
        }
    }

    fn note(&mut self, number: Numbered) {
        if self.seen.insert(number.clone()) {
            self.received.push(number);
        } else {
            self.repeated.push(number);
        }
    }

    pub(crate) fn has(&self, publisher: &str, number: u64) -> bool {
        self.seen.contains(&(publisher.to_owned(), number))
    }
}

/// A connection with its CONNACK; `None` if the broker is gone. A session that was acknowledged once is there.
fn connect(address: SocketAddr, name: &str, has_session: &mut bool) -> Option<Peer> {
    let stream = std::net::TcpStream::connect(address).ok()?;
    let mut peer = Peer::over(stream, Version::V5);
    peer.send_ignoring_errors(&Connect::persistent(Version::V5, name).encode());
    match peer.next_or_close()? {
        Received::ConnAck { session_present, reason: 0, .. } => {
            assert!(session_present || !*has_session, "the session of {name} is gone");
            *has_session = true;
            Some(peer)
        }
        other => panic!("{name} was sent {other:?}"),
    }
}
