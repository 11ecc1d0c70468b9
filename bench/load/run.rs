//! A steady load: the clients of a plan on one event loop, in a closed loop (a window for each publisher) or an open one
//! (a rate).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use wire::ProtocolVersion;

use crate::client::{Client, Identity, Opening, Stamp, Template};
use crate::clock::now;
use crate::ledger::{Ledger, Totals};
use crate::plan::{Plan, Stream};
use crate::transport::Trust;

/// Maximum recorded latency, in microseconds: five minutes. Longer ones count as this.
const LATENCY_US_MAX: u64 = 300_000_000;
/// Expiry of sessions that outlive their connections: longer than a run.
const EXPIRY_S: u32 = 3_600;
/// Longest wait for sockets.
const POLL_MAX: Duration = Duration::from_millis(100);

/// The pacing of messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Messages of each stream in flight to all of its receivers.
    Window(u64),
    /// Messages per second over all streams, whatever arrives. Latency counts from the time each message was due. Messages leave at
    /// multiples of `tick_ns`; 0: each when it is due.
    Rate { per_s: u64, tick_ns: u64 },
}

/// How clients connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) broker: SocketAddr,
    pub(crate) version: ProtocolVersion,
    pub(crate) payload_bytes: usize,
    pub(crate) keep_alive_s: u16,
    pub(crate) websocket: bool,
    /// `None`: without TLS.
    pub(crate) tls: Option<&'static Trust>,
    /// Subscribers have sessions that outlive their connections, and a window is of messages that are not acknowledged.
    pub(crate) lasting: bool,
}

struct Publisher {
    stream: Stream,
    template: Template,
    sequence: u64,
    /// Deliveries of this stream that arrived, each once for each consumer.
    arrived: u64,
    /// With `lasting`: when each message was published that is not acknowledged.
    unacknowledged: VecDeque<u64>,
}

/// All connections of a plan.
pub(crate) struct Run {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    clients: Vec<Client>,
    consumers: Vec<u32>,
    stalls: Vec<bool>,
    publishers: Vec<Publisher>,
    /// By client: the last stream that it publishes.
    publisher_of: Vec<Option<usize>>,
    ledger: Ledger,
    pace: Pace,
    epoch: Instant,
    /// Open loop: messages published so far, and when the first was due.
    published: u64,
    opened_at: Option<Instant>,
    latency_us: Histogram<u64>,
    /// With `lasting`: from PUBLISH to its acknowledgement.
    acknowledged_us: Option<Histogram<u64>>,
    is_measured: bool,
}

impl Run {
    /// Connects all clients of the plan, a few dozen at a time, and waits until each is subscribed.
    ///
    /// # Errors
    /// If the broker refuses, closes or sends a malformed packet.
    pub(crate) fn connect(plan: &Plan, way: Way, pace: Pace) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::with_capacity(plan.clients.len());
        for (chunk_number, chunk) in plan.clients.chunks(Opening::AT_ONCE).enumerate() {
            let first = chunk_number * Opening::AT_ONCE;
            let mut openings = Vec::with_capacity(chunk.len());
            for (number, planned) in (first..).zip(chunk) {
                let is_lasting = way.lasting && !planned.filters.is_empty();
                let identity = Identity {
                    broker: way.broker,
                    version: way.version,
                    name: &planned.name,
                    number,
                    expiry_s: if is_lasting { EXPIRY_S } else { 0 },
                    clean_start: !is_lasting,
                    keep_alive_s: way.keep_alive_s,
                    websocket: way.websocket,
                    tls: way.tls,
                };
                openings.push(Opening::start(&identity, &planned.filters, plan.qos)?);
            }
            for ((number, planned), opening) in (first..).zip(chunk).zip(openings) {
                let mut client = opening.finish(&mut |_| {})?;
                if !planned.stalls {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut client.transport.socket, Token(number), interest)?;
                }
                clients.push(client);
            }
        }
        let mut publisher_of = vec![None; plan.clients.len()];
        for (number, stream) in plan.streams.iter().enumerate() {
            publisher_of[stream.client] = Some(number);
        }
        let publishers = plan.streams.iter().map(|stream| Publisher {
            template: Template::new(way.version, &stream.topic, plan.qos, false, way.payload_bytes),
            stream: stream.clone(),
            sequence: 0,
            arrived: 0,
            unacknowledged: VecDeque::new(),
        });
        Ok(Self {
            poll,
            events: Events::with_capacity(4096),
            buffer: vec![0; 64 * 1024],
            consumers: plan.clients.iter().map(|planned| planned.consumer).collect(),
            stalls: plan.clients.iter().map(|planned| planned.stalls).collect(),
            publishers: publishers.collect(),
            publisher_of,
            ledger: Ledger::new(clients.len(), plan.is_ordered),
            clients,
            pace,
            epoch: now(),
            published: 0,
            opened_at: None,
            latency_us: histogram(),
            acknowledged_us: way.lasting.then(histogram),
            is_measured: false,
        })
    }

    pub(crate) fn totals(&self) -> Totals {
        self.ledger.totals()
    }

    /// Latencies in microseconds of the messages received since `measure`.
    pub(crate) fn latency_us(&self) -> &Histogram<u64> {
        &self.latency_us
    }

    /// With `lasting`: times from PUBLISH to its acknowledgement, in microseconds, since `measure`.
    pub(crate) fn acknowledged_us(&self) -> Option<&Histogram<u64>> {
        self.acknowledged_us.as_ref()
    }

    /// Starts recording latencies.
    pub(crate) fn measure(&mut self) {
        self.is_measured = true;
        self.latency_us.reset();
        if let Some(acknowledged_us) = &mut self.acknowledged_us {
            acknowledged_us.reset();
        }
    }

    /// Publishes and receives until `end`.
    ///
    /// # Errors
    /// If a connection ends.
    pub(crate) fn publish_until(&mut self, end: Instant) -> io::Result<()> {
        loop {
            let wait = match self.pace {
                Pace::Window(window) => {
                    self.fill_windows(window)?;
                    POLL_MAX
                }
                Pace::Rate { per_s, tick_ns } => self.publish_due(per_s, tick_ns)?,
            };
            let now = now();
            if now >= end {
                return Ok(());
            }
            self.turn((end - now).min(wait).min(POLL_MAX))?;
        }
    }

    /// Receives messages in flight until all have arrived or `end`.
    ///
    /// # Errors
    /// If a connection ends.
    pub(crate) fn settle_until(&mut self, end: Instant) -> io::Result<()> {
        while self.totals().lost() > 0 && now() < end {
            self.turn(POLL_MAX)?;
        }
        // Repeated messages arrive soon after.
        self.turn(Duration::from_millis(50))
    }

    fn fill_windows(&mut self, window: u64) -> io::Result<()> {
        let due_ns = self.since_epoch_ns();
        for number in 0..self.publishers.len() {
            let publisher = &self.publishers[number];
            let not_arrived = publisher.sequence - publisher.arrived / publisher.stream.receivers;
            let on_their_way = not_arrived.max(publisher.unacknowledged.len() as u64);
            for _ in on_their_way..window {
                self.publish(number, due_ns);
            }
            if on_their_way < window {
                let client = self.publishers[number].stream.client;
                self.clients[client].flush()?;
            }
        }
        Ok(())
    }

    /// Publishes the messages that are due; returns the time until the next one.
    fn publish_due(&mut self, rate: u64, tick_ns: u64) -> io::Result<Duration> {
        let opened_at = *self.opened_at.get_or_insert_with(now);
        let start_ns = nanoseconds(opened_at.duration_since(self.epoch));
        let elapsed_ns = nanoseconds(opened_at.elapsed());
        let tick_begun_ns = elapsed_ns - elapsed_ns % tick_ns.max(1);
        // The first message is due at once.
        let due = tick_begun_ns * rate / 1_000_000_000 + 1;
        while self.published < due {
            let number = usize::try_from(self.published).expect("64 bits") % self.publishers.len();
            let due_ns = start_ns + self.published * 1_000_000_000 / rate;
            self.publish(number, due_ns);
            self.published += 1;
            let client = self.publishers[number].stream.client;
            self.clients[client].flush()?;
        }
        let next_ns = self.published * 1_000_000_000 / rate;
        Ok(Duration::from_nanos(next_ns.saturating_sub(nanoseconds(opened_at.elapsed()))))
    }

    fn publish(&mut self, number: usize, due_ns: u64) {
        let publisher = &mut self.publishers[number];
        let stream = u32::try_from(number).expect("fewer streams than that");
        let stamp = Stamp { stream, sequence: publisher.sequence, due_ns };
        self.clients[publisher.stream.client].publish(&mut publisher.template, stamp);
        publisher.sequence += 1;
        if self.acknowledged_us.is_some() {
            publisher.unacknowledged.push_back(due_ns);
        }
        self.ledger.expect(publisher.stream.receivers);
    }

    /// Waits for sockets, at most this long, and serves those that are ready.
    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        // epoll counts milliseconds and rounds up, so shorter waits become none.
        let wait = if wait < Duration::from_millis(1) { Duration::ZERO } else { wait };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let now_ns = self.since_epoch_ns();
        let Self {
            events,
            buffer,
            clients,
            consumers,
            stalls,
            publishers,
            publisher_of,
            ledger,
            latency_us,
            acknowledged_us,
            is_measured,
            ..
        } = self;
        for event in events.iter() {
            let Token(number) = event.token();
            if stalls[number] {
                continue;
            }
            let client = &mut clients[number];
            let consumer = consumers[number];
            let mut strange = 0_u64;
            let mut on_payload = |payload: &[u8]| {
                let Some(stamp) = Stamp::read(payload) else {
                    strange += 1;
                    return;
                };
                if ledger.arrive(consumer, stamp.stream, stamp.sequence) {
                    publishers[stamp.stream as usize].arrived += 1;
                    if *is_measured {
                        latency_us.saturating_record(now_ns.saturating_sub(stamp.due_ns) / 1_000);
                    }
                }
            };
            let before = client.acknowledged;
            while client.receive(buffer, &mut on_payload)? {}
            if let Some(acknowledged_us) = acknowledged_us
                && client.acknowledged > before
            {
                // A client has one stream, whose messages are acknowledged in their order.
                let publisher = publisher_of[number].expect("nobody else is acknowledged anything");
                let publisher = &mut publishers[publisher];
                for _ in before..client.acknowledged {
                    let Some(due_ns) = publisher.unacknowledged.pop_front() else { break };
                    if *is_measured {
                        acknowledged_us.saturating_record(now_ns.saturating_sub(due_ns) / 1_000);
                    }
                }
            }
            if strange > 0 {
                return Err(io::Error::other("a message came that the generator did not send"));
            }
            client.flush()?;
        }
        Ok(())
    }

    fn since_epoch_ns(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("bounds of the histogram")
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("five hundred years")
}
