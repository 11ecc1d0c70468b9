//! One connection that speaks MQTT byte by byte, with a deadline on every wait.
//! Acknowledges only when it is told to; for everyday use there are helpers that do.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::packet::{
    Connect, PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, Properties, Publish, Version, acknowledgement,
    disconnect, property, subscribe, unsubscribe,
};
use super::received::{Message, Received, Value, decode, number, text};
use super::time::{Deadline, patience};

/// A client under full control of the test.
pub(crate) struct Peer {
    stream: TcpStream,
    version: Version,
    /// Bytes that are not a whole packet yet.
    bytes: Vec<u8>,
    /// Packets that came while another one was awaited, in order.
    packets: VecDeque<Received>,
    /// What CONNACK said.
    pub(crate) session_present: bool,
    pub(crate) properties: Vec<(u8, Value)>,
    /// Size on the wire of the packet that was read last.
    pub(crate) last_packet_bytes: usize,
    packet_id: u16,
    /// Bytes of the longest packet that came, whole.
    pub(crate) longest_packet_bytes: usize,
}

impl Peer {
    /// A TCP connection on which nothing was said yet.
    pub(crate) fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect_timeout(&address, patience())
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::over(stream, version)
    }

    /// As `open`, on a connection that exists.
    pub(crate) fn over(stream: TcpStream, version: Version) -> Self {
        stream.set_nodelay(true).expect("a TCP socket has this option");
        stream.set_write_timeout(Some(patience())).expect("the time-out is not zero");
        Self {
            stream,
            version,
            bytes: Vec::new(),
            packets: VecDeque::new(),
            session_present: false,
            properties: Vec::new(),
            last_packet_bytes: 0,
            packet_id: 0,
            longest_packet_bytes: 0,
        }
    }

    /// Connects, and asserts that the broker accepts.
    pub(crate) fn connect(address: SocketAddr, connect: &Connect<'_>) -> Self {
        let (peer, reason) = Self::try_connect(address, connect);
        assert_eq!(reason, 0, "CONNECT of {connect:?} was refused with {reason:#04x}");
        peer
    }

    /// Connects; the reason of the CONNACK comes along.
    pub(crate) fn try_connect(address: SocketAddr, connect: &Connect<'_>) -> (Self, u8) {
        let mut peer = Self::open(address, connect.version);
        peer.send(&connect.encode());
        let reason = peer.await_connack();
        (peer, reason)
    }

    /// Waits for CONNACK, which must be the first packet [MQTT-3.2.0-1].
    pub(crate) fn await_connack(&mut self) -> u8 {
        match self.next() {
            Received::ConnAck { session_present, reason, properties } => {
                self.session_present = session_present;
                self.properties = properties;
                reason
            }
            other => panic!("the first packet is not CONNACK but {other:?}"),
        }
    }

    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        number(&self.properties, id)
    }

    pub(crate) fn text(&self, id: u8) -> Option<String> {
        text(&self.properties, id)
    }

    /// Sends bytes, whatever they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .unwrap_or_else(|error| panic!("cannot send {} bytes: {error}", bytes.len()));
    }

    /// As `send`, for bytes that the broker may answer by closing before it has read them all.
    pub(crate) fn send_whatever_happens(&mut self, bytes: &[u8]) {
        // What the broker had to say is read afterwards; that it also closed is no failure here.
        let _ = self.stream.write_all(bytes);
    }

    /// The next packet, in the order the broker sent them.
    pub(crate) fn next(&mut self) -> Received {
        let deadline = Deadline::after(patience());
        match self.packets.pop_front() {
            Some(packet) => packet,
            None => self.read_packet(deadline).unwrap_or_else(|end| panic!("no packet came: {end:?}")),
        }
    }

    /// The next packet, or `None` when the broker closes instead.
    pub(crate) fn next_or_close(&mut self) -> Option<Received> {
        self.answer_to("the last packet")
    }

    /// As `next_or_close`; `what` says what was sent, should nothing come of it.
    pub(crate) fn answer_to(&mut self, what: &str) -> Option<Received> {
        if let Some(packet) = self.packets.pop_front() {
            return Some(packet);
        }
        match self.read_packet(Deadline::after(patience())) {
            Ok(packet) => Some(packet),
            Err(End::Closed) => None,
            Err(End::TimedOut) => {
                panic!("{what}: the broker neither answered nor closed within {:?}", patience())
            }
        }
    }

    /// The next packet for which `is_it` holds; those before it stay for `next`.
    pub(crate) fn await_packet(&mut self, what: &str, is_it: impl Fn(&Received) -> bool) -> Received {
        if let Some(at) = self.packets.iter().position(&is_it) {
            return self.packets.remove(at).expect("it was just found");
        }
        let deadline = Deadline::after(patience());
        loop {
            match self.read_packet(deadline) {
                Ok(packet) if is_it(&packet) => return packet,
                Ok(packet) => self.packets.push_back(packet),
                Err(end) => panic!("no {what}: {end:?}; waiting: {:?}", self.packets),
            }
        }
    }

    /// The next PUBLISH, not acknowledged.
    pub(crate) fn next_publish(&mut self) -> Message {
        match self.await_packet("PUBLISH", |packet| matches!(packet, Received::Publish(_))) {
            Received::Publish(message) => message,
            other => unreachable!("{other:?} is not a PUBLISH"),
        }
    }

    /// The next message, acknowledged to its end as its QoS wants it.
    pub(crate) fn next_message(&mut self) -> Message {
        let message = self.next_publish();
        self.acknowledge(&message);
        message
    }

    /// Plays the receiver's part of QoS 1 or 2 to its end.
    pub(crate) fn acknowledge(&mut self, message: &Message) {
        let id = message.packet_id;
        match message.qos {
            1 => self.send(&acknowledgement(PUBACK, id)),
            2 => {
                self.send(&acknowledgement(PUBREC, id));
                self.await_packet(
                    "PUBREL",
                    |packet| matches!(packet, Received::PubRel { packet_id, .. } if *packet_id == id),
                );
                self.send(&acknowledgement(PUBCOMP, id));
            }
            _ => {}
        }
    }

    /// Subscribes to one filter; the reason comes back.
    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&[(filter, options)], &Properties::new())[0]
    }

    pub(crate) fn subscribe_with(&mut self, filters: &[(&str, u8)], properties: &Properties) -> Vec<u8> {
        let id = self.new_packet_id();
        self.send(&subscribe(self.version, id, filters, properties));
        match self.await_packet(
            "SUBACK",
            |packet| matches!(packet, Received::SubAck { packet_id, .. } if *packet_id == id),
        ) {
            Received::SubAck { reasons, .. } => {
                assert_eq!(reasons.len(), filters.len(), "one reason for each filter [MQTT-3.8.4-6]");
                reasons
            }
            other => unreachable!("{other:?} is not a SUBACK"),
        }
    }

    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let id = self.new_packet_id();
        self.send(&unsubscribe(self.version, id, filters));
        match self.await_packet(
            "UNSUBACK",
            |packet| matches!(packet, Received::UnsubAck { packet_id, .. } if *packet_id == id),
        ) {
            Received::UnsubAck { reasons, .. } => reasons,
            other => unreachable!("{other:?} is not an UNSUBACK"),
        }
    }

    /// Publishes and plays the sender's part to its end; the reason of PUBACK or PUBREC comes back.
    pub(crate) fn publish(&mut self, publish: &Publish<'_>) -> u8 {
        let id = if publish.packet_id == 0 { self.new_packet_id() } else { publish.packet_id };
        self.send(&publish.clone().with_packet_id(id).encode(self.version));
        self.complete(publish.qos, id)
    }

    /// The sender's part after PUBLISH was sent.
    pub(crate) fn complete(&mut self, qos: u8, id: u16) -> u8 {
        match qos {
            0 => 0,
            1 => match self.await_packet(
                "PUBACK",
                |p| matches!(p, Received::PubAck { packet_id, .. } if *packet_id == id),
            ) {
                Received::PubAck { reason, .. } => reason,
                other => unreachable!("{other:?} is not a PUBACK"),
            },
            _ => {
                let reason = self.await_pubrec(id);
                if reason < 0x80 {
                    self.send(&acknowledgement(PUBREL, id));
                    self.await_pubcomp(id);
                }
                reason
            }
        }
    }

    pub(crate) fn await_pubrec(&mut self, id: u16) -> u8 {
        match self
            .await_packet("PUBREC", |p| matches!(p, Received::PubRec { packet_id, .. } if *packet_id == id))
        {
            Received::PubRec { reason, .. } => reason,
            other => unreachable!("{other:?} is not a PUBREC"),
        }
    }

    pub(crate) fn await_pubcomp(&mut self, id: u16) {
        self.await_packet(
            "PUBCOMP",
            |p| matches!(p, Received::PubComp { packet_id, .. } if *packet_id == id),
        );
    }

    /// Pings and waits for the answer: what the broker queued for us before it is read then.
    pub(crate) fn ping(&mut self) {
        self.send(&PINGREQ);
        self.await_packet("PINGRESP", |packet| *packet == Received::PingResp);
    }

    /// A few round trips: what the broker does between packets has had its turn.
    pub(crate) fn settle(&mut self) {
        for _ in 0..5 {
            self.ping();
        }
    }

    /// Messages that are here already.
    pub(crate) fn waiting(&self) -> &VecDeque<Received> {
        &self.packets
    }

    /// Asserts that the broker closes the connection and returns the reason of its DISCONNECT, if it sent one.
    pub(crate) fn await_close(&mut self) -> Option<u8> {
        self.await_farewell().map(|(reason, _)| reason)
    }

    /// As `await_close`; the properties of the DISCONNECT come along.
    pub(crate) fn await_farewell(&mut self) -> Option<(u8, Vec<(u8, Value)>)> {
        let deadline = Deadline::after(patience());
        let mut farewell = None;
        loop {
            let packet = match self.packets.pop_front() {
                Some(packet) => packet,
                None => match self.read_packet(deadline) {
                    Ok(packet) => packet,
                    Err(End::Closed) => return farewell,
                    Err(End::TimedOut) => {
                        panic!("the broker did not close the connection within {:?}", patience())
                    }
                },
            };
            assert_eq!(farewell, None, "{packet:?} came after DISCONNECT [MQTT-3.14.4-2]");
            if let Received::Disconnect { reason, properties } = packet {
                farewell = Some((reason, properties));
            }
        }
    }

    /// A farewell in order: no will is due.
    pub(crate) fn disconnect(mut self) {
        self.send(&disconnect(self.version, 0, &Properties::new()));
        self.await_close();
    }

    pub(crate) fn disconnect_with(mut self, reason: u8, properties: &Properties) {
        self.send(&disconnect(self.version, reason, properties));
        self.await_close();
    }

    /// Closes without DISCONNECT, as a client that loses its network does.
    pub(crate) fn vanish(self) {
        // Whether the broker closed first makes no difference to who is gone.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Says that nothing more comes, and reads, whatever it is, until the broker closes as well: it has seen every byte then.
    pub(crate) fn finish(mut self) {
        // A broker that closed first has seen what it wanted to see.
        let _ = self.stream.shutdown(Shutdown::Write);
        self.stream.set_read_timeout(Some(patience())).expect("the time-out is not zero");
        if let Err(error) = std::io::copy(&mut self.stream, &mut std::io::sink()) {
            let timed_out = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!timed_out, "the broker did not close the connection within {:?}", patience());
        }
    }

    fn new_packet_id(&mut self) -> u16 {
        self.packet_id = self.packet_id % 60_000 + 1;
        self.packet_id
    }

    fn read_packet(&mut self, deadline: Deadline) -> Result<Received, End> {
        let mut chunk = [0; 16_384];
        loop {
            if let Some((packet, taken)) = decode(self.version, &self.bytes) {
                self.bytes.drain(..taken);
                self.last_packet_bytes = taken;
                self.longest_packet_bytes = self.longest_packet_bytes.max(taken);
                return Ok(packet);
            }
            let Some(left) = deadline.remaining() else { return Err(End::TimedOut) };
            // The system rounds down: a whole millisecond keeps it from being "no time-out".
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("the time-out is not zero");
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => self.bytes.extend(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                        return Err(End::Closed);
                    }
                    kind => panic!("cannot read: {kind}"),
                },
            }
        }
    }
}

/// Why no packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    TimedOut,
}

/// The persistence of a session for a version: the property where there is one.
pub(crate) fn expiring(seconds: u32) -> Properties {
    Properties::new().four(property::SESSION_EXPIRY_INTERVAL, seconds)
}
