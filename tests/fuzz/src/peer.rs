//! A client's end of a socket. It decodes what it receives, checks the rules that every client relies on, and records the
//! acknowledgements it has to send.

use wire::{
    Ack, AckKind, Assembler, Connect, ConnectProperties, Packet, PacketId, ProtocolVersion, QoS, ReasonCode,
};

/// One client's view of one connection.
pub(crate) struct Peer {
    version: ProtocolVersion,
    assembler: Assembler,
    /// The reason code of the CONNACK, once it has arrived.
    pub(crate) connected: Option<ReasonCode>,
    /// The client has followed the protocol so far. Its guarantees are checked only then.
    is_compliant: bool,
    /// The version of the broker's packets is known, because the CONNECT was not damaged.
    can_read: bool,
    /// Maximum Packet Size and Receive Maximum, as in the CONNECT.
    packet_bytes_max: u32,
    receive_maximum: u16,
    topic_alias_maximum: u16,
    /// QoS 1 and 2 messages received and not completely acknowledged.
    unacknowledged: Vec<PacketId>,
    /// Acknowledgements still to be sent.
    pending: Vec<(AckKind, PacketId)>,
    ended: bool,
}

impl Peer {
    pub(crate) fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            assembler: Assembler::new(),
            connected: None,
            is_compliant: true,
            can_read: true,
            packet_bytes_max: u32::MAX,
            receive_maximum: u16::MAX,
            topic_alias_maximum: 0,
            unacknowledged: Vec::new(),
            pending: Vec::new(),
            ended: false,
        }
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// The client violates the protocol.
    pub(crate) fn misbehaves(&mut self) {
        self.is_compliant = false;
        self.can_read &= self.connected.is_some();
    }

    /// The client sends this CONNECT, undamaged.
    pub(crate) fn sends_connect(&mut self, connect: &Connect<'_>) {
        let properties = &connect.properties;
        self.packet_bytes_max = properties.packet_bytes_max.map_or(u32::MAX, std::num::NonZeroU32::get);
        self.receive_maximum = properties.receive_maximum.map_or(u16::MAX, std::num::NonZeroU16::get);
        self.topic_alias_maximum = properties.topic_alias_maximum.unwrap_or(0);
    }

    /// Receives bytes, which must be decodable.
    pub(crate) fn arrive(&mut self, mut bytes: &[u8]) {
        let mut assembler = std::mem::take(&mut self.assembler);
        while let Some(frame) = assembler.next(&mut bytes, u32::MAX).expect("the engine frames its packets") {
            if !self.can_read {
                continue;
            }
            assert!(!self.ended, "nothing follows DISCONNECT or a refusal");
            // The refusal of a CONNECT that is too long to be read is as short as it can be, whatever the part says that was not read.
            let is_bare_refusal = self.connected.is_none() && frame.packet_bytes() <= 5;
            if self.is_compliant && !is_bare_refusal {
                let size_bytes = frame.packet_bytes();
                assert!(
                    size_bytes <= self.packet_bytes_max as usize,
                    "{size_bytes} bytes exceed its Maximum Packet Size"
                );
            }
            let packet = Packet::decode(self.version, frame).expect("the engine sends valid packets");
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
                assert!(self.version.is_v5(), "no server sends DISCONNECT before 5.0");
                self.ended = true;
            }
            Packet::Publish(publish) => {
                let alias = publish.properties.topic_alias.map_or(0, std::num::NonZeroU16::get);
                assert!(!self.is_compliant || alias <= self.topic_alias_maximum, "alias {alias}");
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => self.receive(AckKind::PubAck, id),
                    (QoS::ExactlyOnce, Some(id)) => self.receive(AckKind::PubRec, id),
                    _ => {}
                }
            }
            Packet::PubRec(ack) if !ack.reason.is_error() => {
                self.pending.push((AckKind::PubRel, ack.packet_id))
            }
            Packet::PubRel(ack) => self.pending.push((AckKind::PubComp, ack.packet_id)),
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

    fn receive(&mut self, pending: AckKind, id: PacketId) {
        if !self.unacknowledged.contains(&id) {
            self.unacknowledged.push(id);
        }
        let count = self.unacknowledged.len();
        assert!(!self.is_compliant || count <= usize::from(self.receive_maximum), "{count} unacknowledged");
        self.pending.push((pending, id));
    }

    /// Sends the oldest `count` pending acknowledgements.
    pub(crate) fn send_acks(&mut self, count: usize, out: &mut Vec<u8>) {
        for (pending, id) in self.pending.drain(..count.min(self.pending.len())) {
            let ack = Ack::success(id);
            let packet = match pending {
                AckKind::PubAck => Packet::PubAck(ack),
                AckKind::PubRec => Packet::PubRec(ack),
                AckKind::PubRel => Packet::PubRel(ack),
                AckKind::PubComp => Packet::PubComp(ack),
            };
            packet.encode(self.version, out);
            if matches!(pending, AckKind::PubAck | AckKind::PubComp) {
                self.unacknowledged.retain(|waiting| *waiting != id);
            }
        }
    }
}

/// A CONNECT that ends an existing session of this client.
pub(crate) fn clean_start(client_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packet::Connect(Connect {
        version: ProtocolVersion::V5,
        is_bridge: false,
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
