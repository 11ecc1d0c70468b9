//! The part of MQTT 3.1.1 that servers without a codec need: CONNECT, SUBSCRIBE and the topic of a PUBLISH. Only
//! the encoding of our load generator is supported.

/// CONNACK: accepted, no session present.
pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// The packets of one receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A CONNECT alone.
    Connects,
    /// A CONNECT and a SUBSCRIBE with one filter of QoS 0.
    Subscribes { topic: Vec<u8>, packet_id: [u8; 2] },
    /// A PUBLISH of QoS 0 comes first.
    Publishes { topic: Vec<u8> },
}

/// Parses the bytes of one receive.
pub(crate) fn parse(bytes: &[u8]) -> Option<Request> {
    let (first, body, rest) = packet(bytes)?;
    match first {
        0x10 if body.get(..7)? == b"\0\x04MQTT\x04" => {
            if rest.is_empty() {
                return Some(Request::Connects);
            }
            let (0x82, body, []) = packet(rest)? else { return None };
            let (packet_id, filter) = body.split_first_chunk::<2>()?;
            let (topic, [0]) = string(filter)? else { return None };
            Some(Request::Subscribes { topic: topic.to_vec(), packet_id: *packet_id })
        }
        0x30 => Some(Request::Publishes { topic: string(body)?.0.to_vec() }),
        _ => None,
    }
}

/// CONNACK and SUBACK.
pub(crate) fn acknowledged(packet_id: [u8; 2]) -> [u8; 9] {
    let [a, b, c, d] = CONNACK;
    [a, b, c, d, 0x90, 3, packet_id[0], packet_id[1], 0]
}

/// First byte, body and the remaining bytes.
pub(crate) fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (mut length, mut shift, mut rest) = (0, 0, rest);
    loop {
        let (&byte, behind) = rest.split_first()?;
        rest = behind;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            let (body, behind) = rest.split_at_checked(length)?;
            return Some((first, body, behind));
        }
        if shift > 21 {
            return None;
        }
    }
}

/// A length-prefixed string and the remaining bytes.
pub(crate) fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packets_of_the_generator_are_parsed() {
        let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a";
        assert_eq!(parse(connect), Some(Request::Connects));
        let both = [&connect[..], b"\x82\x06\xff\xff\0\x01t\0"].concat();
        assert_eq!(parse(&both), Some(Request::Subscribes { topic: b"t".to_vec(), packet_id: [0xFF; 2] }));
        assert_eq!(parse(b"\x30\x04\0\x01tx\x30"), Some(Request::Publishes { topic: b"t".to_vec() }));
        let other = [&both[..both.len() - 1], &[1]].concat();
        for not_understood in
            [&b"\x32\x06\0\x01t\0\x01x"[..], b"\xe0\0", b"\x10", &other, b"\x30\xff\xff\xff\xff\x01"]
        {
            assert_eq!(parse(not_understood), None, "{not_understood:x?}");
        }
    }
}
