//! Decodes the broker's packets. An invalid packet is a panic with the bytes, because it is a bug of the broker.

use super::packet::{Version, property};

/// The value of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u32),
    Bytes(Vec<u8>),
    Pair(String, String),
}

/// Properties in the order received: identifier and value.
pub(crate) type Properties = Vec<(u8, Value)>;

/// A packet from the broker. Reason codes are those of version 5; packets of earlier versions without one have 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    ConnAck { session_present: bool, reason: u8, properties: Properties },
    Publish(Message),
    PubAck { packet_id: u16, reason: u8, properties: Properties },
    PubRec { packet_id: u16, reason: u8, properties: Properties },
    PubRel { packet_id: u16, reason: u8, properties: Properties },
    PubComp { packet_id: u16, reason: u8, properties: Properties },
    SubAck { packet_id: u16, reasons: Vec<u8>, properties: Properties },
    UnsubAck { packet_id: u16, reasons: Vec<u8>, properties: Properties },
    PingResp,
    Disconnect { reason: u8, properties: Properties },
    Auth { reason: u8, properties: Properties },
}

/// A PUBLISH from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// 0 for QoS 0.
    pub(crate) packet_id: u16,
    pub(crate) properties: Properties,
}

impl Message {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        number(&self.properties, id)
    }
}

/// The first value of a numeric property.
pub(crate) fn number(properties: &[(u8, Value)], id: u8) -> Option<u32> {
    properties.iter().find_map(|(found, value)| match value {
        Value::Number(number) if *found == id => Some(*number),
        Value::Number(_) | Value::Bytes(_) | Value::Pair(..) => None,
    })
}

/// The first value of a textual property.
pub(crate) fn text(properties: &[(u8, Value)], id: u8) -> Option<String> {
    properties.iter().find_map(|(found, value)| match value {
        Value::Bytes(bytes) if *found == id => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Number(_) | Value::Bytes(_) | Value::Pair(..) => None,
    })
}

/// The first complete packet of `input` and its size in bytes.
pub(crate) fn decode(version: Version, input: &[u8]) -> Option<(Received, usize)> {
    let (length, length_bytes) = variable_byte_integer(input.get(1..)?)?;
    let start = 1 + length_bytes;
    let body = input.get(start..start + length)?;
    let mut reader = Reader { body, at: 0, version };
    let received = reader.packet(input[0]);
    assert_eq!(
        reader.at,
        body.len(),
        "the broker's packet has trailing bytes: {:02x?}",
        &input[..start + length]
    );
    Some((received, start + length))
}

fn variable_byte_integer(input: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            assert!(at == 0 || *byte != 0, "the broker sent a length with a needless byte [MQTT-1.5.5-1]");
            return Some((value, at + 1));
        }
    }
    assert!(input.len() < 4, "the broker sent a length of more than four bytes: {:02x?}", &input[..4]);
    None
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    version: Version,
}

impl Reader<'_> {
    fn packet(&mut self, first_byte: u8) -> Received {
        if first_byte & 0xF0 == 0x30 {
            return Received::Publish(self.message(first_byte));
        }
        match first_byte {
            0x20 => self.connack(),
            0x40 => self.acknowledgement(|packet_id, reason, properties| Received::PubAck {
                packet_id,
                reason,
                properties,
            }),
            0x50 => self.acknowledgement(|packet_id, reason, properties| Received::PubRec {
                packet_id,
                reason,
                properties,
            }),
            0x62 => self.acknowledgement(|packet_id, reason, properties| Received::PubRel {
                packet_id,
                reason,
                properties,
            }),
            0x70 => self.acknowledgement(|packet_id, reason, properties| Received::PubComp {
                packet_id,
                reason,
                properties,
            }),
            0x90 => self.reasons(|packet_id, reasons, properties| Received::SubAck {
                packet_id,
                reasons,
                properties,
            }),
            0xB0 => self.reasons(|packet_id, reasons, properties| Received::UnsubAck {
                packet_id,
                reasons,
                properties,
            }),
            0xD0 => Received::PingResp,
            0xE0 => {
                assert!(self.version.is_v5(), "only version 5 lets a server send DISCONNECT");
                let (reason, properties) = self.reason_and_properties();
                Received::Disconnect { reason, properties }
            }
            0xF0 => {
                assert!(self.version.is_v5(), "only version 5 has AUTH");
                let (reason, properties) = self.reason_and_properties();
                Received::Auth { reason, properties }
            }
            _ => panic!("the broker sent first byte {first_byte:#04x} and {:02x?}", self.body),
        }
    }

    fn message(&mut self, first_byte: u8) -> Message {
        let qos = first_byte >> 1 & 3;
        assert!(qos < 3, "the broker sent QoS 3");
        let topic = self.text();
        let packet_id = if qos == 0 { 0 } else { self.two() };
        assert!(qos == 0 || packet_id != 0, "packet identifier 0 is reserved");
        let properties = self.properties();
        let payload = self.body[self.at..].to_vec();
        self.at = self.body.len();
        let dup = first_byte & 0x08 != 0;
        Message { topic, payload, qos, retain: first_byte & 1 != 0, dup, packet_id, properties }
    }

    fn connack(&mut self) -> Received {
        let flags = self.byte();
        assert!(flags < 2, "CONNACK has reserved flags: {flags:#04x}");
        let reason = self.byte();
        // A broker that refuses a protocol level answers in the format of that level, without properties.
        let is_short = self.is_at_end() && reason != 0;
        let properties = if is_short { Vec::new() } else { self.properties() };
        Received::ConnAck { session_present: flags == 1, reason, properties }
    }

    fn acknowledgement(&mut self, make: fn(u16, u8, Properties) -> Received) -> Received {
        let packet_id = self.two();
        let (reason, properties) = self.reason_and_properties();
        assert!(reason == 0 || self.version.is_v5(), "only version 5 has a reason");
        make(packet_id, reason, properties)
    }

    /// Both may be omitted at the end of a packet: no reason code means success.
    fn reason_and_properties(&mut self) -> (u8, Properties) {
        let reason = if self.is_at_end() { 0 } else { self.byte() };
        let properties = if self.is_at_end() { Vec::new() } else { self.properties() };
        (reason, properties)
    }

    fn reasons(&mut self, make: fn(u16, Vec<u8>, Properties) -> Received) -> Received {
        let packet_id = self.two();
        let properties = self.properties();
        let reasons = self.body[self.at..].to_vec();
        self.at = self.body.len();
        make(packet_id, reasons, properties)
    }

    fn properties(&mut self) -> Properties {
        if !self.version.is_v5() {
            return Vec::new();
        }
        let length = self.variable();
        let end = self.at + length;
        let mut properties = Vec::new();
        while self.at < end {
            let id = self.byte();
            let value = match id {
                property::PAYLOAD_FORMAT
                | 0x17
                | 0x19
                | property::MAXIMUM_QOS
                | property::RETAIN_AVAILABLE
                | property::WILDCARD_AVAILABLE
                | property::SUBSCRIPTION_IDS_AVAILABLE
                | property::SHARED_AVAILABLE => Value::Number(self.byte().into()),
                property::SERVER_KEEP_ALIVE
                | property::RECEIVE_MAXIMUM
                | property::TOPIC_ALIAS_MAXIMUM
                | property::TOPIC_ALIAS => Value::Number(self.two().into()),
                property::MESSAGE_EXPIRY_INTERVAL
                | property::SESSION_EXPIRY_INTERVAL
                | property::WILL_DELAY_INTERVAL
                | property::MAXIMUM_PACKET_SIZE => {
                    Value::Number(u32::from(self.two()) << 16 | u32::from(self.two()))
                }
                property::SUBSCRIPTION_ID => {
                    Value::Number(u32::try_from(self.variable()).expect("four groups of seven bits fit"))
                }
                property::USER_PROPERTY => Value::Pair(self.text(), self.text()),
                property::CONTENT_TYPE
                | property::RESPONSE_TOPIC
                | property::CORRELATION_DATA
                | property::ASSIGNED_CLIENT_ID
                | 0x15
                | 0x16
                | 0x1A
                | 0x1C
                | 0x1F => Value::Bytes(self.bytes()),
                _ => panic!("the broker sent property {id:#04x}, which does not exist"),
            };
            properties.push((id, value));
        }
        assert_eq!(self.at, end, "the broker's properties are longer than their length field");
        properties
    }

    fn is_at_end(&self) -> bool {
        self.at == self.body.len()
    }

    fn byte(&mut self) -> u8 {
        let byte = *self
            .body
            .get(self.at)
            .unwrap_or_else(|| panic!("the broker's packet is too short: {:02x?}", self.body));
        self.at += 1;
        byte
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn variable(&mut self) -> usize {
        let (value, bytes) =
            variable_byte_integer(&self.body[self.at..]).expect("the broker's length is whole");
        self.at += bytes;
        value
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.two());
        let bytes = self.body.get(self.at..self.at + length).expect("the broker's text is whole").to_vec();
        self.at += length;
        bytes
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).expect("the broker's text is UTF-8")
    }
}
