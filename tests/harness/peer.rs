//! One connection that exchanges MQTT packets byte by byte, with a deadline on every wait. Sends acknowledgements only on
//! request; helpers combine the common sequences.

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
    /// Bytes of an incomplete packet.
    bytes: Vec<u8>,
    /// Packets that arrived while another one was awaited, in order.
    packets: VecDeque<Received>,
    /// Fields of the CONNACK.
    pub(crate) session_present: bool,
    pub(crate) properties: Vec<(u8, Value)>,
    /// Size on the wire of the packet read last.
    pub(crate) last_packet_bytes: usize,
    packet_id: u16,
    /// Size of the largest complete packet received, in bytes.
    pub(crate) longest_packet_bytes: usize,
}

impl Peer {
    /// A TCP connection without any packet yet.
    pub(crate) fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect_timeout(&address, patience())
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::over(stream, version)
    }

    /// Like `open`, on an existing connection.
    pub(crate) fn over(stream: TcpStream, version: Version) -> Self {
        // A unix socket in its place has no such option.
        let _ = stream.set_nodelay(true);
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

    /// Connects; also returns the reason code of the CONNACK.
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

    /// Sends any bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .unwrap_or_else(|error| panic!("cannot send {} bytes: {error}", bytes.len()));
    }

    /// Like `send`, for bytes that the broker may refuse by closing before it has read them all.
    pub(crate) fn send_ignoring_errors(&mut self, bytes: &[u8]) {
        // The broker's answer is read afterwards. A connection that is already closed is not a failure here.
        let _ = self.stream.write_all(bytes);
    }

    /// The next packet, in the order sent by the broker.
    pub(crate) fn next(&mut self) -> Received {
        let deadline = Deadline::after(patience());
        match self.packets.pop_front() {
            Some(packet) => packet,
            None => self.read_packet(deadline).unwrap_or_else(|end| panic!("no packet came: {end:?}")),
        }
    }

    /// The next packet, or `None` if the broker closes instead.
    pub(crate) fn next_or_close(&mut self) -> Option<Received> {
        self.answer_to("the last packet")
    }

    /// Like `next_or_close`; `what` describes the packet sent, for the failure message.
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

    /// The next packet for which `is_it` holds. Earlier packets stay for `next`.
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

    /// The next message, acknowledged completely according to its QoS.
    pub(crate) fn next_message(&mut self) -> Message {
        let message = self.next_publish();
        self.acknowledge(&message);
        message
    }

    /// Completes the receiver's part of QoS 1 or 2.
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

    /// Subscribes to one filter and returns the reason code.
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

    /// Publishes and completes the sender's part; returns the reason code of PUBACK or PUBREC.
    pub(crate) fn publish(&mut self, publish: &Publish<'_>) -> u8 {
        let id = if publish.packet_id == 0 { self.new_packet_id() } else { publish.packet_id };
        self.send(&publish.clone().with_packet_id(id).encode(self.version));
        self.complete(publish.qos, id)
    }

    /// The sender's part after the PUBLISH.
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

    /// Sends a PINGREQ and waits for the PINGRESP. Packets that the broker queued before are then read.
    pub(crate) fn ping(&mut self) {
        self.send(&PINGREQ);
        self.await_packet("PINGRESP", |packet| *packet == Received::PingResp);
    }

    /// Waits for a few round trips, so that the broker's work between packets is done.
    pub(crate) fn settle(&mut self) {
        for _ in 0..5 {
            self.ping();
        }
    }

    /// Packets already received.
    pub(crate) fn waiting(&self) -> &VecDeque<Received> {
        &self.packets
    }

    /// Asserts that the broker closes the connection and returns the reason of its DISCONNECT, if it sent one.
    pub(crate) fn await_close(&mut self) -> Option<u8> {
        self.await_disconnect().map(|(reason, _)| reason)
    }

    /// Like `await_close`; also returns the properties of the DISCONNECT.
    pub(crate) fn await_disconnect(&mut self) -> Option<(u8, Vec<(u8, Value)>)> {
        let deadline = Deadline::after(patience());
        let mut disconnect = None;
        loop {
            let packet = match self.packets.pop_front() {
                Some(packet) => packet,
                None => match self.read_packet(deadline) {
                    Ok(packet) => packet,
                    Err(End::Closed) => return disconnect,
                    Err(End::TimedOut) => {
                        panic!("the broker did not close the connection within {:?}", patience())
                    }
                },
            };
            assert_eq!(disconnect, None, "{packet:?} came after DISCONNECT [MQTT-3.14.4-2]");
            if let Received::Disconnect { reason, properties } = packet {
                disconnect = Some((reason, properties));
            }
        }
    }

    /// Disconnects normally: no will is published.
    pub(crate) fn disconnect(mut self) {
        self.send(&disconnect(self.version, 0, &Properties::new()));
        self.await_close();
    }

    pub(crate) fn disconnect_with(mut self, reason: u8, properties: &Properties) {
        self.send(&disconnect(self.version, reason, properties));
        self.await_close();
    }

    /// Closes without DISCONNECT, like a client that loses its network.
    pub(crate) fn vanish(self) {
        // If the broker closed first, the client is gone all the same.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Closes the sending direction and reads until the broker closes as well: it has then read every byte.
    pub(crate) fn finish(mut self) {
        // A broker that closed first has read all that it wanted.
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
            // The system rounds down; a whole millisecond avoids a zero time-out, which means none.
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

/// The reason why no packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    TimedOut,
}

/// Session persistence for a version: the property, where it exists.
pub(crate) fn expiring(seconds: u32) -> Properties {
    Properties::new().four(property::SESSION_EXPIRY_INTERVAL, seconds)
}
