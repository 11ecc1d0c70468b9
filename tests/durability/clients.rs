//! Clients that live longer than the broker: they keep what the standard has them keep, and go on where they were.
//! Each of their steps has its time: of what is received, after it was read, and of what is sent, before it is. So a client as it was at any
//! moment is one that a broker could have had then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::harness::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Properties, Publish, Version, acknowledgement, subscribe,
};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::harness::time::monotonic_ns;

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
    is_retained: bool,
    payload_bytes: usize,
    /// Numbers that the broker has taken over.
    pub(crate) acknowledged: BTreeSet<u64>,
    steps: Vec<(u64, Published)>,
}

/// A step of a publisher.
#[derive(Clone, Copy)]
enum Published {
    HasSession,
    Sent {
        number: u64,
        id: u16,
    },
    /// PUBREC came.
    Taken {
        id: u16,
    },
    /// PUBACK or PUBCOMP came.
    Ended {
        id: u16,
    },
}

impl Publisher {
    pub(crate) fn new(name: &str, qos: u8) -> Self {
        let (in_flight, acknowledged) = (BTreeMap::new(), BTreeSet::new());
        let (name, next, has_session, is_retained) = (name.to_owned(), 1, false, false);
        let (payload_bytes, steps) = (0, Vec::new());
        Self { name, qos, next, in_flight, has_session, is_retained, payload_bytes, acknowledged, steps }
    }

    /// Its payloads are so long.
    pub(crate) fn with_payload(self, payload_bytes: usize) -> Self {
        Self { payload_bytes, ..self }
    }

    /// The publisher as it was at a moment.
    pub(crate) fn at(&self, when_ns: u64) -> Self {
        let Self { name, qos, is_retained, payload_bytes, .. } = self;
        let mut then =
            Self { is_retained: *is_retained, ..Self::new(name, *qos) }.with_payload(*payload_bytes);
        for (_, step) in self.steps.iter().take_while(|(at_ns, _)| *at_ns <= when_ns) {
            then.apply(*step);
        }
        then
    }

    /// The moments of its steps.
    pub(crate) fn moments(&self) -> Vec<u64> {
        self.steps.iter().map(|(at_ns, _)| *at_ns).collect()
    }

    fn step(&mut self, step: Published) {
        self.steps.push((monotonic_ns(), step));
        self.apply(step);
    }

    fn apply(&mut self, step: Published) {
        match step {
            Published::HasSession => self.has_session = true,
            Published::Sent { number, id } => {
                self.next = number + 1;
                self.in_flight.insert(id, (number, false));
            }
            Published::Taken { id } => {
                let (number, is_received) = self.in_flight.get_mut(&id).expect("it was in flight");
                *is_received = true;
                self.acknowledged.insert(*number);
            }
            Published::Ended { id } => {
                let (number, _) = self.in_flight.remove(&id).expect("it was in flight");
                self.acknowledged.insert(number);
            }
        }
    }

    /// Its messages are retained, each in the place of the one before.
    pub(crate) fn retained(self) -> Self {
        Self { is_retained: true, ..self }
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
        let Some(mut peer) = connect(address, &self.name, self.has_session) else { return };
        self.step(Published::HasSession);
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
                let id = u16::try_from(number % 60_000).expect("it is below 65,536") + 1;
                self.step(Published::Sent { number, id });
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
                    self.step(Published::Ended { id: packet_id });
                    progress.fetch_add(1, Relaxed);
                }
                Some(Received::PubRec { packet_id, reason, .. }) => {
                    assert!(reason < 0x80, "{reason:#04x}");
                    self.step(Published::Taken { id: packet_id });
                    peer.send_ignoring_errors(&acknowledgement(PUBREL, packet_id));
                }
                Some(other) => panic!("{} was sent {other:?}", self.name),
            }
        }
    }

    fn send(&self, peer: &mut Peer, number: u64, id: u16, dup: bool) {
        let (topic, payload) =
            (format!("t/{}", self.name), format!("{number:<width$}", width = self.payload_bytes));
        let mut publish = Publish::new(&topic, self.qos, payload.as_bytes()).with_packet_id(id);
        (publish.dup, publish.retain) = (dup, self.is_retained);
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
    steps: Vec<(u64, Heard)>,
}

/// A step of a subscriber.
#[derive(Clone)]
enum Heard {
    HasSession,
    Subscribed(String),
    Message {
        numbered: Numbered,
        qos: u8,
        id: u16,
    },
    /// PUBREL came.
    Released {
        id: u16,
    },
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
            steps: Vec::new(),
        }
    }

    /// The subscriber as it was at a moment.
    pub(crate) fn at(&self, when_ns: u64) -> Self {
        let mut then = Self::new(&self.name);
        for (_, step) in self.steps.iter().take_while(|(at_ns, _)| *at_ns <= when_ns) {
            then.apply(step.clone());
        }
        then
    }

    fn step(&mut self, step: Heard) {
        self.steps.push((monotonic_ns(), step.clone()));
        self.apply(step);
    }

    fn apply(&mut self, step: Heard) {
        match step {
            Heard::HasSession => self.has_session = true,
            Heard::Subscribed(filter) => {
                self.filters.insert(filter);
            }
            Heard::Message { numbered, qos, id } => {
                // Of QoS 2 it is another one only if the one before was released.
                if qos < 2 || self.unreleased.insert(id) {
                    self.note(numbered);
                }
            }
            Heard::Released { id } => {
                self.unreleased.remove(&id);
            }
        }
    }

    /// Subscribes to `filter`, and receives until the broker is gone or `is_enough` says so.
    pub(crate) fn run(
        &mut self,
        address: SocketAddr,
        filter: Option<&str>,
        is_enough: impl Fn(&Self) -> bool,
    ) {
        let Some(mut peer) = connect(address, &self.name, self.has_session) else { return };
        self.step(Heard::HasSession);
        if let Some(filter) = filter {
            let packet = subscribe(Version::V5, 9, &[(filter, 2)], &Properties::new());
            peer.send_ignoring_errors(&packet);
        }
        while !is_enough(self) {
            match peer.next_or_close() {
                None | Some(Received::Disconnect { .. }) => return,
                Some(Received::SubAck { reasons, .. }) => {
                    assert_eq!(reasons, [2]);
                    self.step(Heard::Subscribed(filter.expect("it has subscribed").to_owned()));
                }
                Some(Received::Publish(message)) => {
                    let (id, qos) = (message.packet_id, message.qos);
                    let publisher = message.topic.trim_start_matches("t/").to_owned();
                    let number = message.text().trim().parse().expect("a payload is a number");
                    self.step(Heard::Message { numbered: (publisher, number), qos, id });
                    let answer = if qos == 2 { PUBREC } else { PUBACK };
                    peer.send_ignoring_errors(&acknowledgement(answer, id));
                }
                Some(Received::PubRel { packet_id, .. }) => {
                    self.step(Heard::Released { id: packet_id });
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

    /// Acknowledged messages of these publishers that arrived.
    pub(crate) fn received_of(&self, publishers: &[Publisher]) -> usize {
        let arrived = |(name, number): &&Numbered| {
            publishers
                .iter()
                .any(|publisher| publisher.name == *name && publisher.acknowledged.contains(number))
        };
        self.received.iter().filter(arrived).count()
    }

    pub(crate) fn has(&self, publisher: &str, number: u64) -> bool {
        self.seen.contains(&(publisher.to_owned(), number))
    }
}

/// A connection with its CONNACK; `None` if the broker is gone. A session that was acknowledged once is there.
fn connect(address: SocketAddr, name: &str, has_session: bool) -> Option<Peer> {
    let stream = std::net::TcpStream::connect(address).ok()?;
    let mut peer = Peer::over(stream, Version::V5);
    peer.send_ignoring_errors(&Connect::persistent(Version::V5, name).encode());
    match peer.next_or_close()? {
        Received::ConnAck { session_present, reason: 0, .. } => {
            assert!(session_present || !has_session, "the session of {name} is gone");
            Some(peer)
        }
        other => panic!("{name} was sent {other:?}"),
    }
}
