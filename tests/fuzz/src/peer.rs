//! A client's end of a socket: it can read what it is sent, counts what any client may count on, and knows what it owes.
//! Knows no engine.

use wire::{
    Ack, AckKind, Assembler, Connect, ConnectProperties, Packet, PacketId, ProtocolVersion, QoS, ReasonCode,
};

/// One client's view of one connection.
pub(crate) struct Peer {
    version: ProtocolVersion,
    assembler: Assembler,
    /// The reason in CONNACK, once it came.
    pub(crate) connected: Option<ReasonCode>,
    /// It said nothing but what a client that keeps the rules says; only then can it count.
    is_tidy: bool,
    /// It is known in which version it is answered: its CONNECT was not damaged.
    can_read: bool,
    /// The largest packet it takes and how many messages at once, as its CONNECT said.
    packet_bytes_max: u32,
    receive_maximum: u16,
    topic_alias_maximum: u16,
    /// QoS 1 and 2 messages received and not acknowledged to their end.
    unacknowledged: Vec<PacketId>,
    /// Acknowledgements that it owes, encoded.
    owed: Vec<(AckKind, PacketId)>,
    ended: bool,
}

impl Peer {
    pub(crate) fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            assembler: Assembler::new(),
            connected: None,
            is_tidy: true,
            can_read: true,
            packet_bytes_max: u32::MAX,
            receive_maximum: u16::MAX,
            topic_alias_maximum: 0,
            unacknowledged: Vec::new(),
            owed: Vec::new(),
            ended: false,
        }
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// It says something that a client that keeps the rules would not.
    pub(crate) fn misbehaves(&mut self) {
        self.is_tidy = false;
        self.can_read &= self.connected.is_some();
    }

    /// It says this CONNECT, undamaged.
    pub(crate) fn announces(&mut self, connect: &Connect<'_>) {
        let properties = &connect.properties;
        self.packet_bytes_max = properties.packet_bytes_max.map_or(u32::MAX, std::num::NonZeroU32::get);
        self.receive_maximum = properties.receive_maximum.map_or(u16::MAX, std::num::NonZeroU16::get);
        self.topic_alias_maximum = properties.topic_alias_maximum.unwrap_or(0);
    }

    /// Bytes reach it; it must be able to read them.
    pub(crate) fn arrive(&mut self, mut bytes: &[u8]) {
        let mut assembler = std::mem::take(&mut self.assembler);
        while let Some(frame) = assembler.next(&mut bytes, u32::MAX).expect("the engine frames its packets") {
            if !self.can_read {
                continue;
            }
            assert!(!self.ended, "nothing follows DISCONNECT or a refusal");
            if self.is_tidy {
                let size_bytes = frame.packet_bytes();
                assert!(
                    size_bytes <= self.packet_bytes_max as usize,
                    "{size_bytes} bytes, which it does not take"
                );
            }
            let packet =
                Packet::decode(self.version, frame).expect("the engine writes what a client can read");
            self.take(&packet);
        }
        self.assembler = assembler;
    }

    fn take(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(self.connected, None, "one CONNACK");
                self.connected = Some(connack.reason);
                self.ended = connack.reason != ReasonCode::Success;
                return;
            }
            Packet::Disconnect(_) => {
                assert!(self.version.is_v5(), "before 5.0 no server says DISCONNECT");
                self.ended = true;
            }
            Packet::Publish(publish) => {
                let alias = publish.properties.topic_alias.map_or(0, std::num::NonZeroU16::get);
                assert!(!self.is_tidy || alias <= self.topic_alias_maximum, "alias {alias}");
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => self.receive(AckKind::PubAck, id),
                    (QoS::ExactlyOnce, Some(id)) => self.receive(AckKind::PubRec, id),
                    _ => {}
                }
            }
            Packet::PubRec(ack) if !ack.reason.is_error() => self.owed.push((AckKind::PubRel, ack.packet_id)),
            Packet::PubRel(ack) => self.owed.push((AckKind::PubComp, ack.packet_id)),
            Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubComp(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::Auth(_)
            | Packet::PingResp => {}
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => {
                panic!("a server sent {packet:?}")
            }
        }
        let may_precede = matches!(packet, Packet::Auth(_));
        assert!(may_precede || self.connected == Some(ReasonCode::Success), "before CONNACK: {packet:?}");
    }

    fn receive(&mut self, owed: AckKind, id: PacketId) {
        if !self.unacknowledged.contains(&id) {
            self.unacknowledged.push(id);
        }
        let count = self.unacknowledged.len();
        assert!(!self.is_tidy || count <= usize::from(self.receive_maximum), "{count} unacknowledged");
        self.owed.push((owed, id));
    }

    /// Says the oldest `count` acknowledgements it owes.
    pub(crate) fn pay(&mut self, count: usize, out: &mut Vec<u8>) {
        for (owed, id) in self.owed.drain(..count.min(self.owed.len())) {
            let ack = Ack::success(id);
            let packet = match owed {
                AckKind::PubAck => Packet::PubAck(ack),
                AckKind::PubRec => Packet::PubRec(ack),
                AckKind::PubRel => Packet::PubRel(ack),
                AckKind::PubComp => Packet::PubComp(ack),
            };
            packet.encode(self.version, out);
            if matches!(owed, AckKind::PubAck | AckKind::PubComp) {
                self.unacknowledged.retain(|waiting| *waiting != id);
            }
        }
    }
}

/// A CONNECT that ends whatever session this client had.
pub(crate) fn clean_start(client_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packet::Connect(Connect {
        version: ProtocolVersion::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    })
    .encode(ProtocolVersion::V5, &mut bytes);
    bytes
}
