//! Every property in every packet, against table 2-4: where it is allowed, and that it may occur once.

use wire::{Malformed, ProtocolVersion};

use crate::{decode, packet};

/// A packet with a property section; the will has a section of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Connect,
    Will,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    Disconnect,
    Auth,
}
use Place::{
    Auth, ConnAck, Connect, Disconnect, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, Subscribe,
    UnsubAck, Unsubscribe, Will,
};

const PLACES: [Place; 14] = [
    Connect,
    Will,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    Disconnect,
    Auth,
];

/// Table 2-4: identifier, an example value, packets.
const TABLE: &[(u8, &[u8], &[Place])] = &[
    (0x01, &[1], &[Publish, Will]),
    (0x02, &[0, 0, 0, 9], &[Publish, Will]),
    (0x03, &[0, 1, b'a'], &[Publish, Will]),
    (0x08, &[0, 1, b'a'], &[Publish, Will]),
    (0x09, &[0, 1, 0xFF], &[Publish, Will]),
    (0x0B, &[0x81, 0x01], &[Publish, Subscribe]),
    (0x11, &[0, 0, 0, 9], &[Connect, ConnAck, Disconnect]),
    (0x12, &[0, 1, b'a'], &[ConnAck]),
    (0x13, &[0, 9], &[ConnAck]),
    (0x15, &[0, 1, b'a'], &[Connect, ConnAck, Auth]),
    (0x16, &[0, 1, 0xFF], &[Connect, ConnAck, Auth]),
    (0x17, &[0], &[Connect]),
    (0x18, &[0, 0, 0, 9], &[Will]),
    (0x19, &[1], &[Connect]),
    (0x1A, &[0, 1, b'a'], &[ConnAck]),
    (0x1C, &[0, 1, b'a'], &[ConnAck, Disconnect]),
    (0x1F, &[0, 1, b'a'], &[ConnAck, PubAck, PubRec, PubRel, PubComp, SubAck, UnsubAck, Disconnect, Auth]),
    (0x21, &[0, 9], &[Connect, ConnAck]),
    (0x22, &[0, 0], &[Connect, ConnAck]),
    (0x23, &[0, 9], &[Publish]),
    (0x24, &[1], &[ConnAck]),
    (0x25, &[0], &[ConnAck]),
    (0x26, &[0, 1, b'a', 0, 1, b'b'], &PLACES),
    (0x27, &[0, 0, 0, 9], &[Connect, ConnAck]),
    (0x28, &[0], &[ConnAck]),
    (0x29, &[1], &[ConnAck]),
    (0x2A, &[1], &[ConnAck]),
];

const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const USER_PROPERTY: u8 = 0x26;

impl Place {
    /// The smallest packet with `properties` in this place.
    fn packet(self, properties: &[u8]) -> Vec<u8> {
        let section = &[&[properties.len().to_le_bytes()[0]], properties].concat()[..];
        let connect = &b"\0\x04MQTT\x05"[..];
        match self {
            Connect => packet(0x10, &[connect, &[0, 0, 60], section, b"\0\0"].concat()),
            Will => packet(0x10, &[connect, &[4, 0, 60, 0], b"\0\0", section, b"\0\x01t\0\0"].concat()),
            ConnAck => packet(0x20, &[&[0, 0], section].concat()),
            Publish => packet(0x30, &[b"\0\x01t", section].concat()),
            PubAck => packet(0x40, &[&[0, 1, 0], section].concat()),
            PubRec => packet(0x50, &[&[0, 1, 0], section].concat()),
            PubRel => packet(0x62, &[&[0, 1, 0], section].concat()),
            PubComp => packet(0x70, &[&[0, 1, 0], section].concat()),
            Subscribe => packet(0x82, &[&[0, 1], section, b"\0\x01t\0"].concat()),
            SubAck => packet(0x90, &[&[0, 1], section, &[0]].concat()),
            Unsubscribe => packet(0xA2, &[&[0, 1], section, b"\0\x01t"].concat()),
            UnsubAck => packet(0xB0, &[&[0, 1], section, &[0]].concat()),
            Disconnect => packet(0xE0, &[&[0], section].concat()),
            Auth => packet(0xF0, &[&[0x18], section].concat()),
        }
    }

    /// The properties that `identifier` requires in this place.
    fn needs(self, identifier: u8) -> &'static [u8] {
        let is_method_needed = (self == Auth && identifier != AUTHENTICATION_METHOD)
            || (self == Connect && identifier == AUTHENTICATION_DATA);
        if is_method_needed { &[AUTHENTICATION_METHOD, 0, 1, b'm'] } else { &[] }
    }
}

fn check(place: Place, properties: &[u8], expected: Result<(), Malformed>) {
    decode(ProtocolVersion::V5, &place.packet(properties), |decoded| {
        assert_eq!(decoded.map(|_| ()), expected, "{place:?} {properties:x?}");
    });
}

#[test]
fn properties_are_accepted_only_in_the_packets_of_the_table() {
    for place in PLACES {
        for identifier in 0..=0x7F {
            let needs = place.needs(identifier);
            let number = identifier.into();
            let Some((_, value, places)) = TABLE.iter().find(|(known, ..)| *known == identifier) else {
                check(
                    place,
                    &[needs, &[identifier, 0, 0, 0, 0]].concat(),
                    Err(Malformed::PropertyUnknown { identifier: number }),
                );
                continue;
            };
            let properties = [needs, &[identifier], value].concat();
            let is_allowed = places.contains(&place);
            check(
                place,
                &properties,
                if is_allowed { Ok(()) } else { Err(Malformed::PropertyNotAllowed { identifier: number }) },
            );
        }
    }
}

#[test]
fn only_repeatable_properties_may_occur_twice() {
    let mut checked = 0;
    for (identifier, value, places) in TABLE {
        for &place in *places {
            let properties =
                [place.needs(*identifier), &[*identifier], value, &[*identifier], value].concat();
            let is_repeatable =
                *identifier == USER_PROPERTY || (*identifier == SUBSCRIPTION_IDENTIFIER && place == Publish);
            let number = (*identifier).into();
            check(
                place,
                &properties,
                if is_repeatable { Ok(()) } else { Err(Malformed::PropertyDuplicate { identifier: number }) },
            );
            checked += 1;
        }
    }
    assert_eq!(checked, 64, "table 2-4 has 64 pairs of property and packet");
}

#[test]
fn values_must_end_within_their_section() {
    for (identifier, value, places) in TABLE {
        let place = places[0];
        let whole = [place.needs(*identifier), &[*identifier], value].concat();
        for end in whole.len() - value.len()..whole.len() {
            check(place, &whole[..end], Err(Malformed::FieldTruncated));
        }
    }
}
