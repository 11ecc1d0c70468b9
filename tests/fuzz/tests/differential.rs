//! Our codec compared with mqtt-proto without a fuzzer: an example of every class of difference, and packets from seeds.

use std::collections::BTreeMap;

use fuzz::differential::{Class, Verdict, judge, packet_of};
use wire::ProtocolVersion::{self, V3_1, V3_1_1, V5};

/// How many packets are made; `PACKETS` in the environment overrides it.
const PACKETS: u64 = 100_000;

/// Each class with an example packet.
const EXAMPLES: &[(Class, ProtocolVersion, &[u8])] = &[
    (Class::LongInteger, V5, b"\xC0\x80\0"),
    (Class::TrailingBytes, V3_1_1, b"\x40\x03\0\x01\0"),
    (Class::NullInText, V5, b"\xE0\x07\0\x05\x1F\0\x02a\0"),
    (Class::NoTopic, V3_1_1, b"\x30\x02\0\0"),
    (Class::NoTopic, V5, b"\x30\x03\0\0\0"),
    (Class::NoTopic, V3_1_1, b"\x10\x10\0\x04MQTT\x04\x04\0\0\0\0\0\0\0\0"),
    (Class::ZeroProperty, V5, b"\x10\x10\0\x04MQTT\x05\0\0\0\x03\x21\0\0\0\0"),
    (Class::ZeroProperty, V5, b"\x82\x09\0\x01\x02\x0B\0\0\x01a\0"),
    (Class::ZeroAlias, V5, b"\x30\x07\0\x01a\x03\x23\0\0"),
    (Class::EmptyResponseTopic, V5, b"\x30\x07\0\x01a\x03\x08\0\0"),
    (Class::BridgeLevel, V3_1_1, b"\x10\x0D\0\x04MQTT\x84\x02\0\0\0\x01a"),
    (Class::NoMethod, V5, b"\xF0\x02\0\0"),
    (Class::NoMethod, V5, b"\x10\x10\0\x04MQTT\x05\0\0\0\x03\x16\0\0\0\0"),
    (Class::RetainWithoutWill, V3_1_1, b"\x10\x0C\0\x04MQTT\x04\x20\0\0\0\0"),
    (Class::PasswordAlone, V3_1_1, b"\x10\x0E\0\x04MQTT\x04\x40\0\0\0\0\0\0"),
    (Class::RefusalWithSession, V5, b"\x20\x03\x01\x87\0"),
    (Class::DupWithQos0, V5, b"\x38\x04\0\x01a\0"),
    (Class::SharedNoLocal, V5, b"\x82\x10\0\x01\0\0\x0A$share/g/a\x04"),
    (Class::NoReasons, V5, b"\x90\x03\0\x01\0"),
    (Class::NoReasons, V5, b"\xB0\x03\0\x01\0"),
    (Class::WildcardNotAlone, V3_1_1, b"\x82\x07\0\x01\0\x02+a\0"),
    (Class::PayloadFormat, V5, b"\x30\x07\0\x01a\x02\x01\x01\xFF"),
    (Class::ManySubscriptionIds, V5, b"\x30\x08\0\x01a\x04\x0B\x01\x0B\x02"),
    (Class::WrittenFailure, V3_1_1, b"\x90\x04\0\x01\x80\0"),
    (Class::MethodInDisconnect, V5, b"\xE0\x01\x8C"),
    (Class::FlagsOf31, V3_1, b"\x6A\x02\0\x01"),
    (Class::FlagsOf31, V3_1, b"\x20\x02\x01\0"),
    (Class::FlagsOf31, V3_1, b"\x20\x02\x07\0"),
];

#[test]
fn every_class_of_difference_has_an_example_and_a_line_in_the_readme() {
    let readme = include_str!("../README.md");
    for class in Class::ALL {
        assert!(EXAMPLES.iter().any(|(of, ..)| of == class), "no example of {class:?}");
        assert!(readme.contains(&format!("| `{class:?}` |")), "{class:?} is not explained");
    }
    for (class, version, packet) in EXAMPLES {
        assert_eq!(judge(*version, packet), Verdict::Known(*class), "{packet:x?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment sets how many packets are tried")]
#[test]
fn packets_from_seeds_differ_in_no_other_way() {
    let packets = std::env::var("PACKETS").map_or(PACKETS, |text| text.parse().expect("PACKETS is a number"));
    let mut counts: BTreeMap<Verdict, u64> = BTreeMap::new();
    let mut state = 0x5EED_u64;
    let mut input = [0; 200];
    for _ in 0..packets {
        for byte in &mut input {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
        if let Some((version, packet)) = packet_of(&input) {
            *counts.entry(judge(version, &packet)).or_default() += 1;
        }
    }
    println!("{counts:#?}");
    assert!(counts[&Verdict::Same] > packets / 10, "most are refused: {counts:?}");
    assert!(counts[&Verdict::Refused] > packets / 10, "hardly any is refused: {counts:?}");
}
