//! One client connection of the generator. It never blocks once it is open. PUBLISH is parsed by hand, since the load
//! consists of it; all other packets use the broker's codec.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};
use wire::packet::{
    Ack, AckKind, Connect, ConnectProperties, Packet, PublishParts, Subscribe, SubscribeFilters,
    SubscribeOptions,
};
use wire::{Assembler, PacketId, ProtocolVersion, QoS, RetainHandling, TopicFilter};

use crate::transport::{Transport, Trust};
use crate::websocket::{self, Frames};

/// Longest packet that the generator expects, in bytes.
const PACKET_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Clients that share a source address, which has 28,232 ports.
const CLIENTS_PER_ADDRESS: usize = 24_000;

/// The parameters of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) broker: SocketAddr,
    pub(crate) version: ProtocolVersion,
    pub(crate) name: &'a str,
    /// Distributes clients over source addresses.
    pub(crate) number: usize,
    /// Session expiry interval.
    pub(crate) expiry_s: u32,
    pub(crate) clean_start: bool,
    /// 0: none. The generator sends no PINGREQ, so it must be longer than a run.
    pub(crate) keep_alive_s: u16,
    pub(crate) websocket: bool,
    /// `None`: without TLS.
    pub(crate) tls: Option<&'static Trust>,
}

/// A PUBLISH for a stream, encoded once; the fields that change are overwritten for each message.
#[derive(Debug, Default)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    stamp_at: usize,
}

/// The fields at the front of each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) stream: u32,
    pub(crate) sequence: u64,
    /// When it was due, in nanoseconds since the start of the run.
    pub(crate) due_ns: u64,
}

impl Stamp {
    pub(crate) const BYTES: usize = 20;

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let payload: &[u8; Self::BYTES] = payload.get(..Self::BYTES)?.try_into().ok()?;
        let (stream, rest) = payload.split_first_chunk::<4>()?;
        let (sequence, due) = rest.split_first_chunk::<8>()?;
        Some(Self {
            stream: u32::from_le_bytes(*stream),
            sequence: u64::from_le_bytes(*sequence),
            due_ns: u64::from_le_bytes(due.try_into().ok()?),
        })
    }

    fn write(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.stream.to_le_bytes());
        payload[4..12].copy_from_slice(&self.sequence.to_le_bytes());
        payload[12..Self::BYTES].copy_from_slice(&self.due_ns.to_le_bytes());
    }
}

impl Template {
    pub(crate) fn new(
        version: ProtocolVersion,
        topic: &str,
        qos: QoS,
        retain: bool,
        payload_bytes: usize,
    ) -> Self {
        let payload_bytes = payload_bytes.max(Stamp::BYTES);
        let parts = PublishParts {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: (qos != QoS::AtMostOnce).then(|| PacketId::new(1).expect("not zero")),
            message_expiry_interval_s: None,
            topic_alias: None,
            subscription_ids: &[],
            forwarded: &[],
            payload_bytes,
        };
        let mut bytes = Vec::new();
        parts.encode_head(version, &mut bytes);
        let stamp_at = bytes.len();
        bytes.resize(stamp_at + payload_bytes, b'x');
        Self { bytes, packet_id_at: parts.packet_id_offset(version), stamp_at }
    }
}

pub(crate) struct Client {
    pub(crate) transport: Transport<mio::net::TcpStream>,
    version: ProtocolVersion,
    assembler: Assembler,
    out: Vec<u8>,
    /// There if the connection is a WebSocket.
    frames: Option<Frames>,
    packet_id: u16,
    /// PUBACKs or PUBCOMPs received: the number of our own messages that are complete.
    pub(crate) acknowledged: u64,
}

impl Client {
    /// Connects, subscribes to `filters` and waits for both acknowledgements. Payloads that arrive with them go to
    /// `on_payload`.
    pub(crate) fn open(
        identity: &Identity<'_>,
        filters: &[String],
        qos: QoS,
        on_payload: &mut impl FnMut(&[u8]),
    ) -> io::Result<Self> {
        Opening::start(identity, filters, qos)?.finish(on_payload)
    }

    pub(crate) fn publish(&mut self, template: &mut Template, stamp: Stamp) {
        if let Some(at) = template.packet_id_at {
            self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            template.bytes[at..at + 2].copy_from_slice(&self.packet_id.to_be_bytes());
        }
        stamp.write(&mut template.bytes[template.stamp_at..]);
        if self.frames.is_some() {
            websocket::wrap(&template.bytes, &mut self.out);
        } else {
            self.out.extend_from_slice(&template.bytes);
        }
    }

    /// Sends the buffered bytes until the socket is full.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self.transport.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            other => other?,
        }
        let mut sent = 0;
        while sent < self.out.len() {
            match self.transport.write(&self.out[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..sent);
        Ok(())
    }

    /// Receives once, passes each payload to `on_payload`, and sends acknowledgements. Returns whether there may be more.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        on_payload: &mut impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        let length = match self.transport.read(buffer) {
            Ok(0) => return Err(io::Error::other("the broker closed the connection")),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let more = length == buffer.len() || !self.transport.tells_its_end();
        let Some(frames) = &mut self.frames else {
            self.take(&buffer[..length], on_payload)?;
            return Ok(more);
        };
        let payload_bytes = frames.unwrap(&mut buffer[..length])?;
        let out = std::mem::take(&mut self.out);
        self.take(&buffer[..payload_bytes], on_payload)?;
        let acknowledgements = std::mem::replace(&mut self.out, out);
        if !acknowledgements.is_empty() {
            websocket::wrap(&acknowledgements, &mut self.out);
        }
        Ok(more)
    }

    fn take(&mut self, mut rest: &[u8], on_payload: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let (version, out) = (self.version, &mut self.out);
        loop {
            if self.assembler.is_idle()
                && let Some(taken) = plain_publish(version, rest, on_payload)
            {
                rest = &rest[taken..];
                continue;
            }
            let Some(frame) = self.assembler.next(&mut rest, PACKET_BYTES_MAX).map_err(malformed)? else {
                return Ok(());
            };
            let packet = Packet::decode(version, frame).map_err(malformed)?;
            answer(version, &packet, out, on_payload, &mut self.acknowledged)?;
        }
    }
}

/// A client that has sent CONNECT and SUBSCRIBE and not read the answers: many can be opened in the time that one takes
/// to be acknowledged.
pub(crate) struct Opening {
    transport: Transport<TcpStream>,
    version: ProtocolVersion,
    qos: QoS,
    /// CONNACK and SUBACK.
    awaited: usize,
    frames: Option<Frames>,
}

impl Opening {
    /// Concurrent openings: fewer than the shortest backlog of the compared brokers.
    pub(crate) const AT_ONCE: usize = 64;

    pub(crate) fn start(identity: &Identity<'_>, filters: &[String], qos: QoS) -> io::Result<Self> {
        let stream = connect(identity.broker, identity.number)?;
        let mut transport = Transport::new(stream, identity.broker.ip(), identity.tls)?;
        let mut out = Vec::new();
        encode_connect(identity, &mut out);
        let version = identity.version;
        let mut awaited = 1;
        if !filters.is_empty() {
            encode_subscribe(version, filters, qos, &mut out);
            awaited += 1;
        }
        let mut frames = None;
        if identity.websocket {
            websocket::open(&mut transport)?;
            frames = Some(Frames::default());
            let packets = std::mem::take(&mut out);
            websocket::wrap(&packets, &mut out);
        }
        let taken = transport.write(&out)?;
        assert!(taken == out.len(), "a blocking socket takes everything");
        Ok(Self { transport, version, qos, awaited, frames })
    }

    /// Waits for the acknowledgements.
    pub(crate) fn finish(self, on_payload: &mut impl FnMut(&[u8])) -> io::Result<Client> {
        let Self { mut transport, version, qos, mut awaited, mut frames } = self;
        let mut out = Vec::new();
        let mut assembler = Assembler::new();
        let mut buffer = [0; 16 * 1024];
        while awaited > 0 {
            let length = transport.read(&mut buffer)?;
            if length == 0 {
                return Err(io::Error::other("the broker closed before it acknowledged"));
            }
            let length = match &mut frames {
                Some(frames) => frames.unwrap(&mut buffer[..length])?,
                None => length,
            };
            let mut rest = &buffer[..length];
            while let Some(frame) = assembler.next(&mut rest, PACKET_BYTES_MAX).map_err(malformed)? {
                let packet = Packet::decode(version, frame).map_err(malformed)?;
                match &packet {
                    Packet::ConnAck(connack) if connack.reason.is_error() => {
                        return Err(io::Error::other(format!("refused: {:?}", connack.reason)));
                    }
                    Packet::SubAck(suback)
                        if suback.reasons.iter().any(|reason| reason.code() != qos as u8) =>
                    {
                        // A lower QoS as well: the measurement must have the requested one.
                        return Err(io::Error::other(format!("refused: a subscription of {qos:?}")));
                    }
                    Packet::ConnAck(_) | Packet::SubAck(_) => awaited -= 1,
                    _ => answer(version, &packet, &mut out, on_payload, &mut 0)?,
                }
            }
        }
        transport.socket.set_nonblocking(true)?;
        let transport = transport.over(mio::net::TcpStream::from_std);
        if frames.is_some() && !out.is_empty() {
            let acknowledgements = std::mem::take(&mut out);
            websocket::wrap(&acknowledgements, &mut out);
        }
        let mut client = Client { transport, version, assembler, out, frames, packet_id: 0, acknowledged: 0 };
        client.flush()?;
        Ok(client)
    }
}

/// The shard of a client identifier, from the user property `shard` in CONNACK. The connection is closed again.
///
/// # Errors
/// If the broker refuses, or reports no shard.
pub(crate) fn shard_of(identity: &Identity<'_>) -> io::Result<u16> {
    let mut stream = connect(identity.broker, identity.number)?;
    let mut packet = Vec::new();
    encode_connect(identity, &mut packet);
    stream.write_all(&packet)?;
    let mut assembler = Assembler::new();
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::other("the broker closed before it acknowledged"));
        }
        let mut rest = &buffer[..length];
        let Some(frame) = assembler.next(&mut rest, PACKET_BYTES_MAX).map_err(malformed)? else { continue };
        let Packet::ConnAck(connack) = Packet::decode(identity.version, frame).map_err(malformed)? else {
            return Err(io::Error::other("the broker answered CONNECT with something else"));
        };
        let mut properties = connack.properties.user_properties.iter();
        let shard =
            properties.find_map(|(name, value)| if name == "shard" { value.parse().ok() } else { None });
        stream.write_all(&[0xE0, 0])?;
        return shard
            .ok_or_else(|| io::Error::other("the broker reports no shard: start it with --tell-shard true"));
    }
}

/// Handles a complete QoS 0 PUBLISH without properties at the front of `bytes`. Returns its size, or `None` for anything
/// else.
fn plain_publish(
    version: ProtocolVersion,
    bytes: &[u8],
    on_payload: &mut impl FnMut(&[u8]),
) -> Option<usize> {
    let [first, length, body @ ..] = bytes else { return None };
    if first & 0xF6 != 0x30 || *length >= 0x80 {
        return None;
    }
    let body = body.get(..usize::from(*length))?;
    let topic_bytes = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let rest = body.get(2 + topic_bytes..)?;
    let payload = match (version, rest) {
        (ProtocolVersion::V5, []) => return None,
        (ProtocolVersion::V5, [properties_bytes, ..]) if *properties_bytes > 0 => return None,
        (ProtocolVersion::V5, [_, payload @ ..])
        | (ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1, payload) => payload,
    };
    on_payload(payload);
    Some(2 + body.len())
}

fn answer(
    version: ProtocolVersion,
    packet: &Packet<'_>,
    out: &mut Vec<u8>,
    on_payload: &mut impl FnMut(&[u8]),
    acknowledged: &mut u64,
) -> io::Result<()> {
    let (kind, packet_id) = match packet {
        Packet::Publish(publish) => {
            on_payload(publish.payload);
            match (publish.qos, publish.packet_id) {
                (QoS::AtLeastOnce, Some(packet_id)) => (AckKind::PubAck, packet_id),
                (QoS::ExactlyOnce, Some(packet_id)) => (AckKind::PubRec, packet_id),
                _ => return Ok(()),
            }
        }
        Packet::PubRec(ack) if !ack.reason.is_error() => (AckKind::PubRel, ack.packet_id),
        Packet::PubRel(ack) => (AckKind::PubComp, ack.packet_id),
        Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_) => {
            *acknowledged += 1;
            return Ok(());
        }
        Packet::Disconnect(disconnect) => {
            return Err(io::Error::other(format!("disconnected: {:?}", disconnect.reason)));
        }
        _ => return Ok(()),
    };
    Ack::success(packet_id).encode(kind, version, out);
    Ok(())
}

/// A blocking connection from the loopback address for this number.
pub(crate) fn connect(broker: SocketAddr, number: usize) -> io::Result<TcpStream> {
    if !broker.ip().is_loopback() {
        return Err(io::Error::other("the load goes only to loopback addresses of this machine"));
    }
    let socket = Socket::new(Domain::for_address(broker), Type::STREAM, Some(Protocol::TCP))?;
    // The first address is not bound. bind(2) searches for a port that is free for all destinations, which was four
    // fifths of the generator's cost for 5,000 connects; connect(2) searches for one that is free for the broker.
    if broker.is_ipv4() && number >= CLIENTS_PER_ADDRESS {
        let last = u8::try_from(1 + number / CLIENTS_PER_ADDRESS).map_err(io::Error::other)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0).into())?;
    }
    socket.connect(&broker.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

pub(crate) fn encode_connect(identity: &Identity<'_>, out: &mut Vec<u8>) {
    let expiry = identity.version.is_v5() && identity.expiry_s > 0;
    let connect = Connect {
        version: identity.version,
        is_bridge: false,
        clean_start: identity.clean_start,
        keep_alive_s: identity.keep_alive_s,
        client_id: identity.name,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_interval_s: expiry.then_some(identity.expiry_s),
            ..ConnectProperties::default()
        },
    };
    connect.encode(identity.version, out);
}

fn encode_subscribe(version: ProtocolVersion, filters: &[String], qos: QoS, out: &mut Vec<u8>) {
    let options = SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    let parsed: Vec<_> = filters
        .iter()
        .map(|filter| (TopicFilter::parse(filter).expect("the generator's own filter"), options))
        .collect();
    let subscribe = Subscribe {
        packet_id: PacketId::new(u16::MAX).expect("not zero"),
        subscription_id: None,
        user_properties: wire::UserProperties::default(),
        filters: SubscribeFilters::from_slice(&parsed),
    };
    subscribe.encode(version, out);
}

fn malformed(malformed: wire::Malformed) -> io::Error {
    io::Error::other(format!("the broker sent a malformed packet: {malformed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_stamp_is_read_back() {
        for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            let mut template = Template::new(version, "load/1", QoS::AtMostOnce, false, 64);
            let stamp = Stamp { stream: 7, sequence: u64::from(u32::MAX) + 1, due_ns: 99 };
            stamp.write(&mut template.bytes[template.stamp_at..]);
            let mut stamps = Vec::new();
            let taken =
                plain_publish(version, &template.bytes, &mut |payload| stamps.push(Stamp::read(payload)));
            assert_eq!((taken, stamps), (Some(template.bytes.len()), vec![Some(stamp)]));
        }
    }
}
