//! A host for one engine without I/O: bytes go in, and its output is answered as a client would.

use engine::{
    Action, Actions, Admission, Arrival, ClosedBy, ConnectionId, Engine, Entropy, Event, Instant, Lend,
    Limits, Topology,
};
use wire::packet::{
    Ack, AckKind, Connect, ConnectProperties, Subscribe, SubscribeFilters, SubscribeOptions, UserProperties,
};
use wire::{Assembler, PacketId, ProtocolVersion, QoS, RetainHandling, TopicFilter};

pub(crate) const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;
pub(crate) const PACKET_BYTES_MAX: u32 = 1024 * 1024;

/// One shard whose clients live in this process.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    actions: Actions,
    now: Instant,
    dirty: Vec<ConnectionId>,
    assembler: Assembler,
    answers: Vec<u8>,
    /// A connection whose session lives on another shard.
    departing: Option<ConnectionId>,
    /// PUBLISH packets sent by the engine.
    pub(crate) delivered: u64,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::meshed(Topology { own: 0, shard_count: 1, key: Entropy(0) })
    }

    /// One of several shards.
    pub(crate) fn meshed(topology: Topology) -> Self {
        let now = Instant::from_ms(1);
        Self {
            engine: Engine::new(Limits::default(), Entropy(7), now).in_mesh(topology),
            actions: Actions::new(),
            now,
            dirty: Vec::new(),
            assembler: Assembler::new(),
            answers: Vec::new(),
            departing: None,
            delivered: 0,
        }
    }

    /// A connected and subscribed client.
    pub(crate) fn client(&mut self, name: &str, filters: &[String], qos: QoS) -> ConnectionId {
        self.client_if_at_home(name, filters, qos).expect("there is no other shard")
    }

    /// The same, or `None` if its session would live on another shard.
    pub(crate) fn client_if_at_home(
        &mut self,
        name: &str,
        filters: &[String],
        qos: QoS,
    ) -> Option<ConnectionId> {
        let ordinal = self.engine.counters().connections_accepted;
        let id = self.engine.accept(self.now, Admission::Serve, Arrival::new(ordinal), 0);
        let mut bytes = Vec::new();
        connect(name).encode(VERSION, &mut bytes);
        self.receive(id, &bytes);
        if let Some(departing) = self.departing.take() {
            self.engine.complete_hand_over(departing).expect("it is on its way");
            return None;
        }
        if !filters.is_empty() {
            bytes.clear();
            subscribe(filters, qos, &mut bytes);
            self.receive(id, &bytes);
        }
        Some(id)
    }

    /// Feeds a client's bytes until all are consumed and no client has an answer left.
    pub(crate) fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let event = Event::Received { connection: id, bytes: rest };
            let consumed = self.engine.step(self.now, event, &mut self.actions);
            rest = &rest[consumed.bytes..];
            self.carry_out();
            self.flush();
        }
    }

    /// Like `receive`, but only counts the bytes of the output.
    pub(crate) fn receive_unread(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let event = Event::Received { connection: id, bytes };
        let consumed = self.engine.step(self.now, event, &mut self.actions);
        assert_eq!(consumed.bytes, bytes.len());
        self.send_unread()
    }

    /// Like `receive_unread`, for any other event.
    pub(crate) fn step_unread(&mut self, event: Event<'_>) -> usize {
        let _nothing = self.engine.step(self.now, event, &mut self.actions);
        self.send_unread()
    }

    fn send_unread(&mut self) -> usize {
        self.carry_out();
        let mut sent_bytes = 0;
        while let Some(id) = self.dirty.pop() {
            while let Lend::Chunk(chunk) = self.engine.lend(id) {
                let length = chunk.as_bytes().len();
                sent_bytes += length;
                self.engine.give_back(self.now, id, chunk, length, &mut self.actions);
            }
            self.carry_out();
        }
        sent_bytes
    }

    /// Advances the time; no connection may end by it.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        while self.engine.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            let _nothing = self.engine.step(self.now, Event::Tick, &mut self.actions);
            assert!(self.actions.is_empty(), "every client sent a packet in time");
        }
    }

    /// The network connection of a client ends.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        let event = Event::Closed { connection: id, by: ClosedBy::Peer };
        let _nothing = self.engine.step(self.now, event, &mut self.actions);
        self.carry_out();
        self.dirty.clear();
    }

    fn carry_out(&mut self) {
        while !self.actions.is_empty() {
            let mut durable = None;
            for action in self.actions.drain() {
                match action {
                    Action::Flush(id) => self.dirty.push(id),
                    Action::Persist(batch) => durable = Some(batch),
                    Action::HandOver { connection, .. } => self.departing = Some(connection),
                    _ => {}
                }
            }
            if let Some(batch) = durable {
                let _nothing = self.engine.step(self.now, Event::durable(batch), &mut self.actions);
            }
        }
    }

    /// Takes everything out of the outboxes and sends the acknowledgements.
    fn flush(&mut self) {
        while let Some(id) = self.dirty.pop() {
            while let Lend::Chunk(chunk) = self.engine.lend(id) {
                let mut rest = chunk.as_bytes();
                let length = rest.len();
                while let Ok(Some(frame)) = self.assembler.next(&mut rest, PACKET_BYTES_MAX) {
                    let kind = match frame.first_byte {
                        0x30..=0x3F => {
                            self.delivered += 1;
                            match frame.first_byte >> 1 & 3 {
                                0 => continue,
                                1 => AckKind::PubAck,
                                _ => AckKind::PubRec,
                            }
                        }
                        0x50 => AckKind::PubRel,
                        0x62 => AckKind::PubComp,
                        _ => continue,
                    };
                    let at = if frame.first_byte & 0xF0 == 0x30 {
                        2 + usize::from(u16::from_be_bytes([frame.body[0], frame.body[1]]))
                    } else {
                        0
                    };
                    let packet_id = u16::from_be_bytes([frame.body[at], frame.body[at + 1]]);
                    let packet_id = PacketId::new(packet_id).expect("a broker's identifier is not zero");
                    Ack::success(packet_id).encode(kind, VERSION, &mut self.answers);
                }
                self.engine.give_back(self.now, id, chunk, length, &mut self.actions);
            }
            self.carry_out();
            if !self.answers.is_empty() {
                let answers = std::mem::take(&mut self.answers);
                let event = Event::Received { connection: id, bytes: &answers };
                let _all = self.engine.step(self.now, event, &mut self.actions);
                self.answers = answers;
                self.answers.clear();
                self.carry_out();
            }
        }
    }
}

pub(crate) fn connect(name: &str) -> Connect<'_> {
    Connect {
        version: VERSION,
        is_bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        client_id: name,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

pub(crate) fn subscribe(filters: &[String], qos: QoS, out: &mut Vec<u8>) {
    let options = SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    let parsed: Vec<_> = filters
        .iter()
        .map(|filter| (TopicFilter::parse(filter).expect("the bench's own filter"), options))
        .collect();
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).expect("not zero"),
        subscription_id: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::from_slice(&parsed),
    };
    subscribe.encode(VERSION, out);
}
