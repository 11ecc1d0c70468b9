//! As much of MQTT 3.1.1 as it takes to open connections for a bare ring: CONNECT, SUBSCRIBE and the topic of a PUBLISH.
//! Knows no connection. Whatever is not the load generator's own plain way of saying it is not understood.

/// CONNACK: accepted, no session present.
pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// What the bytes of one receive say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A CONNECT alone.
    Connects,
    /// A CONNECT and a SUBSCRIBE with one filter of QoS 0.
    Subscribes { topic: Vec<u8>, packet_id: [u8; 2] },
    /// First of all a PUBLISH of QoS 0.
    Publishes { topic: Vec<u8> },
}

/// Reads what was received at once.
pub(crate) fn said(bytes: &[u8]) -> Option<Said> {
    let (first, body, rest) = packet(bytes)?;
    match first {
        0x10 if body.get(..7)? == b"\0\x04MQTT\x04" => {
            if rest.is_empty() {
                return Some(Said::Connects);
            }
            let (0x82, body, []) = packet(rest)? else { return None };
            let (packet_id, filter) = body.split_first_chunk::<2>()?;
            let (topic, [0]) = string(filter)? else { return None };
            Some(Said::Subscribes { topic: topic.to_vec(), packet_id: *packet_id })
        }
        0x30 => Some(Said::Publishes { topic: string(body)?.0.to_vec() }),
        _ => None,
    }
}

/// CONNACK and SUBACK.
pub(crate) fn acknowledged(packet_id: [u8; 2]) -> [u8; 9] {
    let [a, b, c, d] = CONNACK;
    [a, b, c, d, 0x90, 3, packet_id[0], packet_id[1], 0]
}

/// First byte, body and what is behind it.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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

/// A string with its length in front, and what is behind it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_generator_says_is_understood_and_nothing_else() {
        let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a";
        assert_eq!(said(connect), Some(Said::Connects));
        let both = [&connect[..], b"\x82\x06\xff\xff\0\x01t\0"].concat();
        assert_eq!(said(&both), Some(Said::Subscribes { topic: b"t".to_vec(), packet_id: [0xFF; 2] }));
        assert_eq!(said(b"\x30\x04\0\x01tx\x30"), Some(Said::Publishes { topic: b"t".to_vec() }));
        let other = [&both[..both.len() - 1], &[1]].concat();
        for not_understood in
            [&b"\x32\x06\0\x01t\0\x01x"[..], b"\xe0\0", b"\x10", &other, b"\x30\xff\xff\xff\xff\x01"]
        {
            assert_eq!(said(not_understood), None, "{not_understood:x?}");
        }
    }
}
