//! The limits that a listener has of its own, and client identifiers that it takes from elsewhere.

use engine::{
    Admission, AuthenticationStep, ClientIdSource, Engine, Entropy, Limits, ListenerLimits, Notice,
    UserGrant, Verdict,
};
use wire::{Packet, ProtocolVersion, QoS};

use crate::client::{Client, ConnAckFields, Got, Hello, plain, publish};
use crate::host::{Shard, run};
use crate::judging::judge;
use crate::two_shards::{name_on, topology};

/// The listener of these tests that has limits of its own; 0 does not.
const OWN: u16 = 1;

fn limits(own: ListenerLimits) -> Limits {
    Limits { listeners: vec![ListenerLimits::default(), own], ..Limits::default() }
}

fn connack(shard: &mut Shard, client: Client) -> (u8, ConnAckFields) {
    match shard.next(client) {
        Some(Got::ConnAck { reason, fields, .. }) => (reason, *fields),
        other => panic!("no CONNACK but {other:?}"),
    }
}

/// A client whose name is known before its CONNECT.
fn identified(shard: &mut Shard, name: &str, hello: &Hello<'_>) -> Client {
    let client = shard.open_on(OWN, hello.connect.version, Admission::Serve);
    let id = shard.id(client);
    shard.engine.identify(id, name);
    shard.send(client, &Packet::Connect(hello.connect));
    client
}

#[test]
fn mqtt_3_2_2_11_a_listener_bounds_the_qos_of_its_own_clients() {
    let own = ListenerLimits { maximum_qos: Some(QoS::AtLeastOnce), ..ListenerLimits::default() };
    for hello in [Hello::v5("a"), Hello::v3("a")] {
        run(limits(own), |shard| {
            let told = |client| if hello.connect.version.is_v5() { client } else { None };
            let client = shard.dial_on(OWN, &hello);
            assert_eq!(connack(shard, client).1.maximum_qos, told(Some(1)));
            assert_eq!(shard.subscribe_with(client, &[("c", plain(2))], None), [1]);
            shard.publish(client, "c", b"x", 1);
            assert_eq!(shard.texts(client), ["x"]);
            shard.send(client, &Packet::Publish(publish("c", b"x", 2, 7)));
            assert_eq!(shard.ended(client), told(Some(0x9B)));
            let will = hello.will_with("w", "x", QoS::ExactlyOnce, false, 0);
            let client = shard.dial_on(OWN, &will);
            assert_eq!(connack(shard, client).0, if hello.connect.version.is_v5() { 0x9B } else { 0x88 });
            // Another listener has the broker's.
            let client = shard.dial(&will);
            assert_eq!(
                connack(shard, client),
                (0, ConnAckFields { maximum_qos: None, ..connack_fields(&hello) })
            );
            assert_eq!(shard.subscribe_with(client, &[("c", plain(2))], None), [2]);
            shard.goodbye(client);
        });
    }
}

/// The fields of a CONNACK without limits of a listener.
fn connack_fields(hello: &Hello<'_>) -> ConnAckFields {
    let mut fields = ConnAckFields::default();
    run(Limits::default(), |shard| {
        let client = shard.dial(hello);
        fields = connack(shard, client).1;
    });
    fields
}

#[test]
fn a_listener_bounds_the_packets_of_its_own_clients() {
    let own = ListenerLimits { packet_bytes_max: Some(1_024), ..ListenerLimits::default() };
    run(limits(own), |shard| {
        let payload = [b'x'; 1_024];
        for (hello, reason) in [(Hello::v5("a"), Some(0x95)), (Hello::v3("a"), None)] {
            let client = shard.dial_on(OWN, &hello);
            let told = hello.connect.version.is_v5().then_some(1_024);
            assert_eq!(connack(shard, client).1.packet_bytes_max, told);
            shard.send(client, &Packet::Publish(publish("t", &payload[..900], 0, 0)));
            shard.send(client, &Packet::PingReq);
            assert_eq!(shard.take(client), [Got::PingResp]);
            shard.send(client, &Packet::Publish(publish("t", &payload, 0, 0)));
            assert_eq!(shard.ended(client), reason);
        }
        let client = shard.connect(&Hello::v5("a"));
        shard.send(client, &Packet::Publish(publish("t", &payload, 0, 0)));
        shard.send(client, &Packet::PingReq);
        assert_eq!(shard.take(client), [Got::PingResp]);
    });
}

#[test]
fn a_listener_has_no_more_than_the_broker() {
    let own = ListenerLimits {
        packet_bytes_max: Some(1 << 20),
        maximum_qos: Some(QoS::ExactlyOnce),
        ..ListenerLimits::default()
    };
    let broker = Limits { packet_bytes_max: 4_096, maximum_qos: QoS::AtLeastOnce, ..limits(own) };
    run(broker, |shard| {
        let client = shard.dial_on(OWN, &Hello::v5("a"));
        let fields = connack(shard, client).1;
        assert_eq!((fields.packet_bytes_max, fields.maximum_qos), (Some(4_096), Some(1)));
    });
}

#[test]
fn an_identifier_that_comes_from_the_user_name_is_the_clients_own_or_told_to_it() {
    let own = ListenerLimits { client_id_source: ClientIdSource::UserName, ..ListenerLimits::default() };
    for (hello, is_v5) in [(Hello::v5(""), true), (Hello::v3(""), false)] {
        run(limits(own), |shard| {
            // An empty one is told, in 3.1.1 also without clean session.
            let client = shard.dial_on(OWN, &hello.resume().credentials("ann", b""));
            let (reason, fields) = connack(shard, client);
            assert_eq!((reason, fields.assigned), (0, is_v5.then(|| "ann".to_owned())));
            assert_eq!(shard.engine.connection_of("ann"), Some(shard.id(client)));
            // An equal one takes it over.
            let equal = Hello::new(hello.connect.version, "ann").resume().credentials("ann", b"");
            let next = shard.dial_on(OWN, &equal);
            assert!(
                matches!(shard.next(next), Some(Got::ConnAck { present: true, reason: 0, fields }) if fields.assigned.is_none())
            );
            assert!(shard.is_closed(client) && !shard.is_closed(next));
            // Another one, and none where there is no user name, is refused.
            let long = "u".repeat(1_025);
            let other = Hello::new(hello.connect.version, "bob");
            for refused in [other.credentials("ann", b""), other, hello, hello.credentials(&long, b"")] {
                let client = shard.dial_on(OWN, &refused);
                assert_eq!(connack(shard, client).0, 0x85);
                assert!(shard.is_closed(client) && !shard.is_closed(next));
            }
            let _audited = shard.engine.audit();
        });
    }
}

#[test]
fn an_identifier_that_is_not_the_name_is_replaced_where_the_listener_says_so() {
    let own = ListenerLimits {
        client_id_source: ClientIdSource::UserName,
        replaces_client_id: true,
        ..ListenerLimits::default()
    };
    run(limits(own), |shard| {
        let long = "i".repeat(1_025);
        for own_id in ["bob", &long] {
            let client = shard.dial_on(OWN, &Hello::v5(own_id).credentials("ann", b""));
            let (reason, fields) = connack(shard, client);
            assert_eq!((reason, fields.assigned), (0, None));
            assert_eq!(shard.engine.connection_of("ann"), Some(shard.id(client)));
            assert_eq!(shard.engine.session_count(), 1);
        }
        let Some(Notice::Connected { client_id, .. }) = shard.notices.last() else { panic!("no notice") };
        assert_eq!(&**client_id, "ann");
    });
}

#[test]
fn a_name_that_is_known_before_connect_comes_before_the_user_name() {
    for source in [ClientIdSource::Identity, ClientIdSource::UserName] {
        let own = ListenerLimits { judged: true, client_id_source: source, ..ListenerLimits::default() };
        run(limits(own), |shard| {
            let client = identified(shard, "meter-7", &Hello::v5("").credentials("eve", b""));
            let (connection, step) = shard.asked[0];
            let asked = shard.engine.authentication_step(connection, step).unwrap();
            let AuthenticationStep::Basic { client_id, .. } = asked else { panic!("{asked:?}") };
            assert_eq!(client_id, "meter-7", "the verdict is about the identifier that the client is given");
            // The verdict never renames: it can only demand.
            let must_be = Some("meter-7");
            let grant = UserGrant { user: must_be, client_id_must_be: must_be, ..UserGrant::NOBODY };
            judge(shard, Verdict::Success { data: b"", grant: &grant });
            let (reason, fields) = connack(shard, client);
            assert_eq!((reason, fields.assigned.as_deref()), (0, Some("meter-7")));
            let other = identified(shard, "meter-7", &Hello::v5("meter-8"));
            assert_eq!(connack(shard, other).0, 0x85);
            // A name that is too long for an identifier is none.
            let nameless = identified(shard, &"n".repeat(1_025), &Hello::v5("eve").credentials("eve", b""));
            assert_eq!(connack(shard, nameless).0, 0x85);
            assert!(shard.asked.is_empty() && !shard.is_closed(client));
        });
    }
}

#[test]
fn a_user_of_another_name_than_the_one_in_connect_is_refused() {
    let source = ClientIdSource::UserName;
    let own = ListenerLimits { judged: true, client_id_source: source, ..ListenerLimits::default() };
    run(limits(own), |shard| {
        for (user, reason) in [(Some("ann"), 0), (Some("eve"), 0x85), (None, 0x85)] {
            let client = shard.dial_on(OWN, &Hello::v5("").credentials("ann", b"a token of another user"));
            let grant = UserGrant { user, ..UserGrant::NOBODY };
            judge(shard, Verdict::Success { data: b"", grant: &grant });
            assert_eq!(connack(shard, client).0, reason, "{user:?}");
        }
    });
}

#[test]
fn without_a_name_that_is_known_nobody_comes_in_where_it_is_the_identifier() {
    let own = ListenerLimits { client_id_source: ClientIdSource::Identity, ..ListenerLimits::default() };
    run(limits(own), |shard| {
        let client = shard.dial_on(OWN, &Hello::v5("a").credentials("a", b""));
        assert_eq!(connack(shard, client).0, 0x85);
        // A name that comes too late, or of a connection that has gone, changes nothing.
        let client = shard.open_on(OWN, ProtocolVersion::V5, Admission::Serve);
        let id = shard.id(client);
        shard.engine.identify(id, "first");
        shard.engine.identify(id, "second");
        shard.send(client, &Packet::Connect(Hello::v5("").connect));
        assert_eq!(connack(shard, client).1.assigned.as_deref(), Some("second"));
        shard.engine.identify(id, "third");
        shard.hang_up(client);
        shard.engine.identify(id, "fourth");
        let unused = shard.open_on(OWN, ProtocolVersion::V5, Admission::Serve);
        let id = shard.id(unused);
        shard.engine.identify(id, "never");
        let _audited = shard.engine.audit();
        shard.hang_up(unused);
    });
}

#[test]
fn a_client_goes_to_the_shard_of_the_identifier_that_it_is_given() {
    let own = ListenerLimits { client_id_source: ClientIdSource::UserName, ..ListenerLimits::default() };
    let limits = limits(own);
    let mut shard = Shard::new(limits.clone(), 7);
    shard.engine = Engine::new(limits, Entropy(7), shard.now()).in_mesh(topology(0));
    for is_identified in [false, true] {
        let name = name_on(1, 0);
        let hello = Hello::v5("");
        let client = if is_identified {
            identified(&mut shard, &name, &hello)
        } else {
            shard.dial_on(OWN, &hello.credentials(&name, b""))
        };
        assert_eq!(shard.hand_overs.pop_front(), Some((shard.id(client), 1)));
        assert!(shard.complete_hand_over(client).is_some());
    }
    // An identifier that is refused goes nowhere.
    let refused = shard.dial_on(OWN, &Hello::v5(&name_on(1, 1)).credentials("eve", b""));
    assert_eq!(connack(&mut shard, refused).0, 0x85);
    assert!(shard.hand_overs.is_empty());
}
