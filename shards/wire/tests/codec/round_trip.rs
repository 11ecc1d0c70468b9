//! Every packet in every version is decoded as it was encoded.

use proptest::prelude::*;
use wire::{Packet, PublishParts, TopicName};

use crate::recipe::{Recipe, any_recipe, publish_recipe};
use crate::{decode, encode};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_is_decoded_as_it_was_encoded(recipe in any_recipe()) {
        recipe.with_packet(|packet| {
            let bytes = encode(recipe.version, &packet);
            decode(recipe.version, &bytes, |decoded| {
                assert_eq!(decoded, Ok(packet));
                assert_eq!(decoded.map(|decoded| decoded.packet_type()), Ok(recipe.packet_type));
                // A packet decoded from bytes equals the packet built from slices: it is encoded as the same bytes.
                assert_eq!(decoded.map(|decoded| encode(recipe.version, &decoded)), Ok(bytes.clone()));
            });
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_publish_from_parts_has_the_size_and_bytes_of_the_packet(recipe in publish_recipe()) {
        check_parts(&recipe);
    }
}

fn check_parts(recipe: &Recipe) {
    let version = recipe.version;
    recipe.with_packet(|packet| {
        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
        let mut forwarded = Vec::new();
        publish.properties.append_forwardable(&mut forwarded);
        assert_eq!(publish.properties.has_forwardable(), !forwarded.is_empty());
        let ids: Vec<_> = publish.properties.subscription_ids.iter().collect();
        let parts = PublishParts {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic.map_or("", TopicName::as_str),
            packet_id: publish.packet_id,
            message_expiry_interval_s: publish.properties.message_expiry_interval_s,
            topic_alias: publish.properties.topic_alias,
            subscription_ids: &ids,
            forwarded: &forwarded,
            payload_bytes: publish.payload.len(),
        };
        let mut bytes = Vec::new();
        parts.encode_head(version, &mut bytes);
        bytes.extend_from_slice(publish.payload);
        assert_eq!(bytes, encode(version, &packet));
        assert_eq!(bytes.len(), parts.packet_bytes(version));
        let number_at = |offset: usize| u16::from_be_bytes([bytes[offset], bytes[offset + 1]]);
        assert_eq!(
            parts.packet_id_offset(version).map(number_at),
            publish.packet_id.map(wire::PacketId::get)
        );

        // The decoded packet has its section, and the forwarded properties do not depend on the properties between them.
        decode(version, &bytes, |decoded| {
            let Ok(Packet::Publish(decoded)) = decoded else { panic!("{decoded:?}") };
            let mut again = Vec::new();
            decoded.properties.append_forwardable(&mut again);
            assert_eq!(again, forwarded);
            assert_eq!(decoded.properties.has_forwardable(), !forwarded.is_empty());
        });
    });
}
