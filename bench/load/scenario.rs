//! Who publishes to whom, and the exact count of what arrived.
//! Knows no bytes of a packet beyond the payload it made.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use mio::{Events, Interest, Poll, Token};
use wire::packet::PublishParts;
use wire::{ProtocolVersion, QoS};

use crate::session::Session;

/// Bytes of publisher and sequence at the front of each payload.
const STAMP_BYTES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Each publisher has a topic and a subscriber of its own.
    Pairs,
    /// One publisher, many subscribers.
    FanOut,
    /// Many publishers, one subscriber to everything.
    FanIn,
}

pub(crate) struct Plan {
    pub(crate) broker: SocketAddr,
    pub(crate) scenario: Scenario,
    pub(crate) count: usize,
    pub(crate) qos: u8,
    pub(crate) window: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) v5: bool,
}

/// What was sent and what arrived since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) owed: u64,
    pub(crate) delivered: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
}

impl Totals {
    pub(crate) fn lost(&self) -> u64 {
        self.owed.saturating_sub(self.delivered)
    }
}

struct Publisher {
    session: usize,
    topic: String,
    sequence: u64,
    /// Deliveries of the oldest messages that have not all arrived.
    arrived: u64,
}

/// All connections of a scenario.
pub(crate) struct Load {
    poll: Poll,
    sessions: Vec<Session>,
    publishers: Vec<Publisher>,
    /// By session and publisher: the next sequence expected there.
    expected: Vec<Vec<u64>>,
    receivers_per_message: u64,
    window: u64,
    qos: QoS,
    payload: Vec<u8>,
    totals: Totals,
}

impl Load {
    pub(crate) fn connect(plan: &Plan) -> io::Result<Self> {
        let version = if plan.v5 { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
        let qos = QoS::from_bits(plan.qos).expect("checked by the arguments");
        let poll = Poll::new()?;
        let mut sessions = Vec::new();
        let mut open = |name: String, filters: &[String]| -> io::Result<usize> {
            let mut session = Session::open(plan.broker, version, &name, filters, qos)?;
            let token = Token(sessions.len());
            poll.registry().register(&mut session.stream, token, Interest::READABLE | Interest::WRITABLE)?;
            sessions.push(session);
            Ok(token.0)
        };
        let (publisher_count, subscriber_count) = match plan.scenario {
            Scenario::Pairs => (plan.count, plan.count),
            Scenario::FanOut => (1, plan.count),
            Scenario::FanIn => (plan.count, 1),
        };
        for subscriber in 0..subscriber_count {
            let filter = match plan.scenario {
                Scenario::Pairs => format!("load/{subscriber}"),
                Scenario::FanOut => "load/0".to_owned(),
                Scenario::FanIn => "#".to_owned(),
            };
            open(format!("subscriber-{subscriber}"), &[filter])?;
        }
        let mut publishers = Vec::new();
        for publisher in 0..publisher_count {
            let session = open(format!("publisher-{publisher}"), &[])?;
            publishers.push(Publisher {
                session,
                topic: format!("load/{publisher}"),
                sequence: 0,
                arrived: 0,
            });
        }
        Ok(Self {
            poll,
            expected: vec![vec![0; publisher_count]; sessions.len()],
            sessions,
            publishers,
            receivers_per_message: if plan.scenario == Scenario::FanOut { plan.count as u64 } else { 1 },
            window: plan.window as u64,
            qos,
            payload: vec![b'x'; plan.payload_bytes.max(STAMP_BYTES)],
            totals: Totals::default(),
        })
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Publishes, unless only what is on its way is awaited, and receives until `end`.
    pub(crate) fn run_until(&mut self, end: Instant, publishes: bool) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if publishes {
                self.publish()?;
            }
            let now = crate::now();
            if now >= end || (!publishes && self.totals.lost() == 0) {
                return Ok(());
            }
            self.poll.poll(&mut events, Some((end - now).min(Duration::from_millis(100))))?;
            for event in &events {
                let Token(index) = event.token();
                while self.receive(index, &mut buffer)? {}
                self.sessions[index].flush()?;
            }
        }
    }

    /// Fills every window.
    fn publish(&mut self) -> io::Result<()> {
        for (number, publisher) in self.publishers.iter_mut().enumerate() {
            let session = &mut self.sessions[publisher.session];
            while publisher.sequence - publisher.arrived / self.receivers_per_message < self.window {
                let stamp = u32::try_from(number).map_err(io::Error::other)?;
                self.payload[..4].copy_from_slice(&stamp.to_le_bytes());
                self.payload[4..STAMP_BYTES].copy_from_slice(&publisher.sequence.to_le_bytes());
                let packet_id = if self.qos == QoS::AtMostOnce { None } else { session.next_packet_id() };
                let parts = PublishParts {
                    dup: false,
                    qos: self.qos,
                    retain: false,
                    topic: &publisher.topic,
                    packet_id,
                    message_expiry_interval_s: None,
                    topic_alias: None,
                    subscription_ids: &[],
                    forwarded: &[],
                    payload_bytes: self.payload.len(),
                };
                let version = session.version;
                parts.encode_head(version, session.out());
                session.out().extend_from_slice(&self.payload);
                publisher.sequence += 1;
                self.totals.owed += self.receivers_per_message;
            }
            session.flush()?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let Self { sessions, publishers, expected, totals, .. } = self;
        let expected = &mut expected[index];
        sessions[index].receive(buffer, |payload| {
            let number = u32::from_le_bytes(payload[..4].try_into().expect("stamped")) as usize;
            let sequence = u64::from_le_bytes(payload[4..STAMP_BYTES].try_into().expect("stamped"));
            if sequence < expected[number] {
                totals.duplicated += 1;
                return;
            }
            if sequence > expected[number] {
                totals.reordered += 1;
            }
            expected[number] = sequence + 1;
            totals.delivered += 1;
            publishers[number].arrived += 1;
        })
    }
}
