//! Encodes client packets for all three protocol versions, and arbitrary bytes. Checks nothing, because a test must be
//! able to send invalid packets.

/// The protocol version of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3_1,
    V3_1_1,
    V5,
}

impl Version {
    pub(crate) const BOTH: [Self; 2] = [Self::V3_1_1, Self::V5];
    pub(crate) const ALL: [Self; 3] = [Self::V3_1, Self::V3_1_1, Self::V5];

    pub(crate) fn is_v5(self) -> bool {
        self == Self::V5
    }
}

/// Property identifiers of MQTT 5.0, section 2.2.2.2.
pub(crate) mod property {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// Properties of one packet, in the order they were added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties(Vec<u8>);

impl Properties {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn byte(mut self, id: u8, value: u8) -> Self {
        self.0.extend([id, value]);
        self
    }

    pub(crate) fn two(mut self, id: u8, value: u16) -> Self {
        self.0.push(id);
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn four(mut self, id: u8, value: u32) -> Self {
        self.0.push(id);
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn variable(mut self, id: u8, value: u32) -> Self {
        self.0.push(id);
        variable_byte_integer(value, &mut self.0);
        self
    }

    /// A text or binary data. Both are a two-byte length and the bytes.
    pub(crate) fn text(mut self, id: u8, value: &str) -> Self {
        self.0.push(id);
        text(value, &mut self.0);
        self
    }

    pub(crate) fn pair(mut self, key: &str, value: &str) -> Self {
        self.0.push(property::USER_PROPERTY);
        text(key, &mut self.0);
        text(value, &mut self.0);
        self
    }

    fn append_to(&self, version: Version, out: &mut Vec<u8>) {
        match version {
            Version::V3_1 | Version::V3_1_1 => assert!(self.0.is_empty(), "only version 5 has properties"),
            Version::V5 => {
                variable_byte_integer(length(self.0.len()), out);
                out.extend(&self.0);
            }
        }
    }
}

/// The will of a CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Will<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Properties,
}

/// CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Connect<'a> {
    pub(crate) version: Version,
    pub(crate) client_id: &'a str,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) will: Option<Will<'a>>,
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    pub(crate) properties: Properties,
}

impl<'a> Connect<'a> {
    /// A clean session without a will.
    pub(crate) fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            client_id,
            clean_start: true,
            keep_alive_s: 60,
            will: None,
            username: None,
            password: None,
            properties: Properties::new(),
        }
    }

    /// A session that is resumed if there is one, and outlives the connection by an hour.
    pub(crate) fn persistent(version: Version, client_id: &'a str) -> Self {
        let mut connect = Self::new(version, client_id);
        connect.clean_start = false;
        if version.is_v5() {
            connect.properties = Properties::new().four(property::SESSION_EXPIRY_INTERVAL, 3600);
        }
        connect
    }

    pub(crate) fn with_credentials(mut self, username: &'a str, password: &'a [u8]) -> Self {
        (self.username, self.password) = (Some(username), Some(password));
        self
    }

    pub(crate) fn with_will(mut self, topic: &'a str, payload: &'a [u8], properties: Properties) -> Self {
        self.will = Some(Will { topic, payload, qos: 1, retain: false, properties });
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let (name, level) = match self.version {
            Version::V3_1 => ("MQIsdp", 3),
            Version::V3_1_1 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        text(name, &mut body);
        let mut flags = u8::from(self.clean_start) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.username.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        body.extend([level, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        self.properties.append_to(self.version, &mut body);
        text(self.client_id, &mut body);
        if let Some(will) = &self.will {
            will.properties.append_to(self.version, &mut body);
            text(will.topic, &mut body);
            bytes(will.payload, &mut body);
        }
        for part in [self.username.map(str::as_bytes), self.password].into_iter().flatten() {
            bytes(part, &mut body);
        }
        packet(0x10, &body)
    }
}

/// PUBLISH.
#[derive(Clone, Debug)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// Encoded if the QoS is not 0.
    pub(crate) packet_id: u16,
    pub(crate) properties: Properties,
}

impl<'a> Publish<'a> {
    pub(crate) fn new(topic: &'a str, qos: u8, payload: &'a [u8]) -> Self {
        Self { topic, payload, qos, retain: false, dup: false, packet_id: 0, properties: Properties::new() }
    }

    pub(crate) fn with_packet_id(mut self, packet_id: u16) -> Self {
        self.packet_id = packet_id;
        self
    }

    pub(crate) fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn with(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    pub(crate) fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.payload.len() + 64);
        text(self.topic, &mut body);
        if self.qos != 0 {
            body.extend(self.packet_id.to_be_bytes());
        }
        self.properties.append_to(version, &mut body);
        body.extend(self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP without a reason code, which means success in every version.
pub(crate) fn acknowledgement(first_byte: u8, packet_id: u16) -> Vec<u8> {
    packet(first_byte, &packet_id.to_be_bytes())
}

/// The same with a reason code, which exists only in version 5.
pub(crate) fn acknowledgement_with(first_byte: u8, packet_id: u16, reason: u8) -> Vec<u8> {
    let [high, low] = packet_id.to_be_bytes();
    packet(first_byte, &[high, low, reason])
}

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];

/// SUBSCRIBE to filters with their options byte (the QoS; in version 5 also the higher bits).
pub(crate) fn subscribe(
    version: Version,
    packet_id: u16,
    filters: &[(&str, u8)],
    properties: &Properties,
) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    properties.append_to(version, &mut body);
    for (filter, options) in filters {
        text(filter, &mut body);
        body.push(*options);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(version: Version, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    Properties::new().append_to(version, &mut body);
    for filter in filters {
        text(filter, &mut body);
    }
    packet(0xA2, &body)
}

/// DISCONNECT. A reason code other than 0 and properties exist only in version 5.
pub(crate) fn disconnect(version: Version, reason: u8, properties: &Properties) -> Vec<u8> {
    if reason == 0 && properties.0.is_empty() {
        return vec![0xE0, 0];
    }
    assert!(version.is_v5(), "only version 5 has a reason");
    let mut body = vec![reason];
    properties.append_to(version, &mut body);
    packet(0xE0, &body)
}

/// AUTH, always with a reason code and properties.
pub(crate) fn auth(reason: u8, properties: &Properties) -> Vec<u8> {
    let mut body = vec![reason];
    properties.append_to(Version::V5, &mut body);
    packet(0xF0, &body)
}

/// Any packet: fixed header and body.
pub(crate) fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(first_byte);
    variable_byte_integer(length(body.len()), &mut out);
    out.extend(body);
    out
}

pub(crate) fn text(value: &str, out: &mut Vec<u8>) {
    bytes(value.as_bytes(), out);
}

pub(crate) fn variable_byte_integer(mut value: u32, out: &mut Vec<u8>) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7F;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.extend(u16::try_from(value.len()).expect("a text is shorter than 64 KiB").to_be_bytes());
    out.extend(value);
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a packet of a test is shorter than 256 MiB")
}
