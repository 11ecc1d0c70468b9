//! One client connection of the generator: bytes out, packets in, never blocking.
//! Knows no scenario.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use wire::packet::{
    Ack, AckKind, Connect, ConnectProperties, Packet, Subscribe, SubscribeFilters, SubscribeOptions,
};
use wire::{Assembler, PacketId, ProtocolVersion, QoS, RetainHandling, TopicFilter};

/// Longest packet the generator expects, in bytes.
const PACKET_BYTES_MAX: u32 = 16 * 1024 * 1024;

pub(crate) struct Session {
    pub(crate) stream: mio::net::TcpStream,
    pub(crate) version: ProtocolVersion,
    assembler: Assembler,
    out: Vec<u8>,
    packet_id: u16,
}

impl Session {
    /// Connects, subscribes to `filters` and waits for both to be acknowledged.
    pub(crate) fn open(
        broker: SocketAddr,
        version: ProtocolVersion,
        client_id: &str,
        filters: &[String],
        qos: QoS,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(broker)?;
        stream.set_nodelay(true)?;
        let mut out = Vec::new();
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        connect.encode(version, &mut out);
        let options = SubscribeOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::DoNotSend,
        };
        let parsed: Vec<_> = filters
            .iter()
            .map(|filter| (TopicFilter::parse(filter).expect("the generator's own filter"), options))
            .collect();
        if !parsed.is_empty() {
            let subscribe = Subscribe {
                packet_id: PacketId::new(1).expect("not zero"),
                subscription_id: None,
                user_properties: wire::UserProperties::default(),
                filters: SubscribeFilters::from_slice(&parsed),
            };
            subscribe.encode(version, &mut out);
        }
        stream.write_all(&out)?;
        out.clear();
        let mut assembler = Assembler::new();
        let mut awaited = 1 + usize::from(!parsed.is_empty());
        let mut buffer = [0; 1024];
        while awaited > 0 {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Err(io::Error::other("the broker closed before it acknowledged"));
            }
            let mut rest = &buffer[..length];
            while let Some(frame) = assembler.next(&mut rest, PACKET_BYTES_MAX).map_err(malformed)? {
                match Packet::decode(version, frame).map_err(malformed)? {
                    Packet::ConnAck(connack) if connack.reason.is_error() => {
                        return Err(io::Error::other(format!("refused: {:?}", connack.reason)));
                    }
                    _ => awaited -= 1,
                }
            }
        }
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Self { stream, version, assembler, out, packet_id: 0 })
    }

    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(crate) fn next_packet_id(&mut self) -> Option<PacketId> {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.packet_id)
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives once and hands each PUBLISH to `heard`; answers what has to be answered. Returns whether there may be more.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], mut heard: impl FnMut(&[u8])) -> io::Result<bool> {
        let length = match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("the broker closed the connection")),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let more = length == buffer.len();
        let mut rest = &buffer[..length];
        let (version, out) = (self.version, &mut self.out);
        while let Some(frame) = self.assembler.next(&mut rest, PACKET_BYTES_MAX).map_err(malformed)? {
            let answer = match Packet::decode(version, frame).map_err(malformed)? {
                Packet::Publish(publish) => {
                    heard(publish.payload);
                    match (publish.qos, publish.packet_id) {
                        (QoS::AtLeastOnce, Some(packet_id)) => Some((AckKind::PubAck, packet_id)),
                        (QoS::ExactlyOnce, Some(packet_id)) => Some((AckKind::PubRec, packet_id)),
                        _ => None,
                    }
                }
                Packet::PubRec(ack) => Some((AckKind::PubRel, ack.packet_id)),
                Packet::PubRel(ack) => Some((AckKind::PubComp, ack.packet_id)),
                Packet::Disconnect(disconnect) => {
                    return Err(io::Error::other(format!("disconnected: {:?}", disconnect.reason)));
                }
                _ => None,
            };
            if let Some((kind, packet_id)) = answer {
                Ack::success(packet_id).encode(kind, version, out);
            }
        }
        Ok(more)
    }
}

fn malformed(malformed: wire::Malformed) -> io::Error {
    io::Error::other(format!("the broker sent a malformed packet: {malformed}"))
}
