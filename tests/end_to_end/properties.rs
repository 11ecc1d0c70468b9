//! Properties of version 5: they travel with a message, let it expire, abbreviate its topic and identify its
//! subscription.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Value};

pub(crate) fn forwarded_properties_arrive_unaltered(broker: &mut Broker) {
    let topic = broker.name("forwarded");
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    peer.subscribe(&topic, 2);
    let mut older = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, &broker.name("older")));
    older.subscribe(&topic, 2);
    for qos in 0..=2 {
        let properties = Properties::new()
            .byte(property::PAYLOAD_FORMAT, 1)
            .text(property::CONTENT_TYPE, "text/plain")
            .text(property::RESPONSE_TOPIC, "answers/here")
            .text(property::CORRELATION_DATA, "0815")
            .pair("b", "2")
            .pair("a", "1")
            .pair("b", "2")
            .pair("a", "");
        peer.publish(&Publish::new(&topic, qos, "grüße".as_bytes()).with(properties));
        let message = peer.next_message();
        let (pairs, others): (Vec<_>, Vec<_>) =
            message.properties.into_iter().partition(|(id, _)| *id == property::USER_PROPERTY);
        let pairs: Vec<Value> = pairs.into_iter().map(|(_, value)| value).collect();
        let expected = [("b", "2"), ("a", "1"), ("b", "2"), ("a", "")];
        let expected = expected.map(|(key, value)| Value::Pair(key.to_owned(), value.to_owned()));
        assert_eq!(pairs, expected, "user properties keep their order [MQTT-3.3.2-17, MQTT-3.3.2-18]");
        for (id, value) in [
            (property::PAYLOAD_FORMAT, Value::Number(1)),
            (property::CONTENT_TYPE, Value::Bytes(b"text/plain".to_vec())),
            (property::RESPONSE_TOPIC, Value::Bytes(b"answers/here".to_vec())),
            (property::CORRELATION_DATA, Value::Bytes(b"0815".to_vec())),
        ] {
            assert!(others.contains(&(id, value)), "property {id:#04x} was lost or changed: {others:?}");
        }
        assert_eq!(others.len(), 4, "nothing was added: {others:?}");
        assert_eq!(older.next_message().text(), "grüße", "an older client gets the message without them");
    }
    older.disconnect();
    peer.disconnect();
}

pub(crate) fn message_expiry_counts_down_and_expires(broker: &mut Broker) {
    let topic = broker.name("expiry");
    let retained = broker.name("expiry/retained");
    let id = broker.name("sleeper");
    let connect = Connect::persistent(Version::V5, &id);
    let mut sleeper = Peer::connect(broker.address(), &connect);
    sleeper.subscribe(&topic, 1);
    sleeper.disconnect();
    let mut publisher =
        Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("publisher")));
    let expiring = |seconds| Properties::new().four(property::MESSAGE_EXPIRY_INTERVAL, seconds);
    publisher.publish(&Publish::new(&topic, 1, b"short").with(expiring(1)));
    publisher.publish(&Publish::new(&topic, 1, b"long").with(expiring(1000)));
    publisher.publish(&Publish::new(&topic, 1, b"for ever"));
    publisher.publish(&Publish::new(&retained, 1, b"short").with(expiring(1)).retained());
    let lasting = broker.name("expiry/lasting");
    publisher.publish(&Publish::new(&lasting, 1, b"lasting").with(expiring(1000)).retained());
    // The passing of time is the subject of the test.
    std::thread::sleep(Duration::from_millis(2_200));
    let mut sleeper = Peer::connect(broker.address(), &connect);
    let message = sleeper.next_message();
    assert_eq!(message.text(), "long", "a message that expired in the queue is not sent [MQTT-3.3.2-5]");
    let left = message.number(property::MESSAGE_EXPIRY_INTERVAL).expect("the expiry travels [MQTT-3.3.2-6]");
    assert!(
        (990..=998).contains(&left),
        "the time in the queue is taken off, {left} s are left [MQTT-3.3.2-6]"
    );
    let message = sleeper.next_message();
    assert_eq!(
        (message.text(), message.number(property::MESSAGE_EXPIRY_INTERVAL)),
        ("for ever".to_owned(), None)
    );
    sleeper.subscribe(&retained, 1);
    sleeper.subscribe(&lasting, 1);
    assert_eq!(sleeper.next_message().text(), "lasting", "an expired retained message is not sent");
    sleeper.settle();
    assert!(sleeper.waiting().is_empty(), "an expired retained message was sent: {:?}", sleeper.waiting());
    publisher.publish(&Publish::new(&lasting, 1, b"").retained());
    sleeper.disconnect();
    Peer::connect(broker.address(), &Connect::new(Version::V5, &id)).disconnect();
    publisher.disconnect();
}

pub(crate) fn topic_aliases_of_the_client_are_resolved(broker: &mut Broker) {
    let (one, two) = (broker.name("alias/one"), broker.name("alias/two"));
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    let maximum = peer.number(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0);
    assert!(maximum >= 2, "the broker accepts {maximum} topic aliases");
    peer.subscribe(&broker.name("alias/#"), 1);
    let alias = |number| Properties::new().two(property::TOPIC_ALIAS, number);
    let mut arrives_on = |topic: &str, number: u16, expected: &str| {
        peer.publish(&Publish::new(topic, 1, b"x").with(alias(number)));
        let message = peer.next_message();
        assert_eq!(message.topic, expected);
        assert_eq!(message.number(property::TOPIC_ALIAS), None, "an alias is not forwarded");
    };
    arrives_on(&one, 1, &one);
    arrives_on(&two, 2, &two);
    arrives_on("", 1, &one);
    arrives_on("", 2, &two);
    // A new topic can be assigned to an alias.
    arrives_on(&two, 1, &two);
    arrives_on("", 1, &two);
    peer.disconnect();
    // Aliases belong to the connection [MQTT-3.3.2-7].
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    peer.send(&Publish::new("", 0, b"x").with(alias(1)).encode(Version::V5));
    let reason = peer.await_close();
    if broker.is_ours() {
        assert_eq!(reason, Some(0x82), "an alias that was never given a topic is a protocol error");
    }
}

pub(crate) fn topic_aliases_of_the_broker_stay_within_the_maximum(broker: &mut Broker) {
    for maximum in [0_u16, 1, 3, 65_535] {
        let id = broker.name("peer");
        let mut connect = Connect::new(Version::V5, &id);
        if maximum > 0 {
            connect.properties = Properties::new().two(property::TOPIC_ALIAS_MAXIMUM, maximum);
        }
        let mut peer = Peer::connect(broker.address(), &connect);
        let scope = broker.name("alias");
        peer.subscribe(&format!("{scope}/#"), 0);
        let mut aliases: Vec<(u32, String)> = Vec::new();
        for round in 0..3 {
            for number in 0..5 {
                let topic = format!("{scope}/{number}");
                peer.publish(&Publish::new(&topic, 0, format!("{round}").as_bytes()));
                let message = peer.next_message();
                assert_eq!(resolve(&message, maximum, &mut aliases), topic);
                assert_eq!(message.text(), format!("{round}"));
            }
        }
        peer.disconnect();
    }
}

/// The topic of a message, with aliases resolved as a client has to.
fn resolve(message: &Message, maximum: u16, aliases: &mut Vec<(u32, String)>) -> String {
    let Some(alias) = message.number(property::TOPIC_ALIAS) else { return message.topic.clone() };
    assert!(
        (1..=maximum.into()).contains(&alias),
        "alias {alias} is over the client's {maximum} [MQTT-3.1.2-26]"
    );
    let known = aliases.iter().position(|(found, _)| *found == alias);
    if message.topic.is_empty() {
        return aliases[known.expect("an alias has a topic before it is used")].1.clone();
    }
    if let Some(at) = known {
        aliases.remove(at);
    }
    aliases.push((alias, message.topic.clone()));
    message.topic.clone()
}

pub(crate) fn subscription_identifiers_name_every_match(broker: &mut Broker) {
    let scope = broker.name("ids");
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    let numbered = |number| Properties::new().variable(property::SUBSCRIPTION_ID, number);
    peer.subscribe_with(&[(&format!("{scope}/a"), 1)], &numbered(1));
    peer.subscribe_with(&[(&format!("{scope}/+"), 1)], &numbered(268_435_455));
    peer.subscribe_with(&[(&format!("{scope}/b"), 1)], &Properties::new());
    let mut ids = |topic: &str| {
        peer.publish(&Publish::new(&format!("{scope}/{topic}"), 1, b"x"));
        peer.publish(&Publish::new(&format!("{scope}/+").replace('+', "end"), 1, b"end"));
        let mut ids = Vec::new();
        loop {
            let message = peer.next_message();
            if message.payload == b"end" {
                ids.sort_unstable();
                return ids;
            }
            ids.extend(message.properties.iter().filter_map(|(id, value)| match value {
                Value::Number(number) if *id == property::SUBSCRIPTION_ID => Some(*number),
                Value::Number(_) | Value::Bytes(_) | Value::Pair(..) => None,
            }));
        }
    };
    assert_eq!(
        ids("a"),
        [1, 268_435_455],
        "overlapping subscriptions, in one message or in several [MQTT-3.3.4-3]"
    );
    assert_eq!(ids("b"), [268_435_455]);
    peer.unsubscribe(&[&format!("{scope}/+")]);
    // A second subscription replaces the identifier.
    peer.subscribe_with(&[(&format!("{scope}/a"), 1)], &numbered(7));
    peer.publish(&Publish::new(&format!("{scope}/a"), 1, b"x"));
    assert_eq!(peer.next_message().number(property::SUBSCRIPTION_ID), Some(7));
    peer.disconnect();
}

pub(crate) fn no_local_keeps_own_messages_away(broker: &mut Broker) {
    const NO_LOCAL: u8 = 0x04;
    let topic = broker.name("local");
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    let mut other = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("other")));
    peer.subscribe(&topic, 1 | NO_LOCAL);
    other.subscribe(&topic, 1);
    peer.publish(&Publish::new(&topic, 1, b"own"));
    assert_eq!(other.next_message().text(), "own");
    other.publish(&Publish::new(&topic, 1, b"another's"));
    assert_eq!(peer.next_message().text(), "another's", "[MQTT-3.8.3-3]");
    other.disconnect();
    peer.disconnect();
}

pub(crate) fn an_empty_client_identifier_is_assigned(broker: &mut Broker) {
    let first = Peer::connect(broker.address(), &Connect::new(Version::V5, ""));
    let second = Peer::connect(broker.address(), &Connect::new(Version::V5, ""));
    let names = [&first, &second]
        .map(|peer| peer.text(property::ASSIGNED_CLIENT_ID).expect("it is told [MQTT-3.1.3-7]"));
    assert!(
        !names[0].is_empty() && names[0] != names[1],
        "assigned identifiers are unique: {names:?} [MQTT-3.1.3-6]"
    );
    // The assigned identifier is valid: a client that uses it takes the session over.
    let mut first = first;
    let again = Peer::connect(broker.address(), &Connect::new(Version::V5, &names[0]));
    first.await_close();
    again.disconnect();
    second.disconnect();
    // Before version 5 the identifier is never sent, and only a clean session can omit it [MQTT-3.1.3-8 of 3.1.1].
    let mut one = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, ""));
    let mut two = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, ""));
    one.ping();
    two.ping();
    let (mut refused, reason) =
        Peer::try_connect(broker.address(), &Connect::persistent(Version::V3_1_1, ""));
    assert_eq!(reason, 0x02, "return code 2: identifier rejected");
    refused.await_close();
    one.disconnect();
    two.disconnect();
}
