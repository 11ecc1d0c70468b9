//! Certificates: of servers by name, of clients, of clients that are revoked; and sessions of TLS that are resumed, or not.

use rustls::{HandshakeKind, version};

use crate::authority::{Authority, Certificate};
use crate::broker::{directory, listener, start_in, write};
use crate::client::{Client, Trust};
use crate::harness::broker::{Broker, Directory, Io};
use crate::harness::packet::{Connect, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::tunnel;

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// Whether a client is let in.
fn is_let_in(broker: &Broker, trust: &Trust) -> bool {
    let mut client = Client::open(broker.address(), trust, "localhost");
    let connect = Connect::new(Version::V5, "client").encode();
    client.shake_hands(&connect).is_ok() && client.hear(1).is_ok_and(|heard| heard == [0x20])
}

#[test]
fn the_certificate_follows_the_name_that_a_client_asks_for() {
    let authority = Authority::new("authority");
    let directory = directory(&authority);
    write(&directory, "other", &authority.certificate("other", &["other.example", "*.wild.example"], 2));
    let config = listener("").replace(
        "key = \"server.key\" }",
        "key = \"server.key\" }, { chain = \"other.pem\", key = \"other.key\" }",
    );
    let broker = start_in(directory, Io::Auto, &config, &[], 1);
    let trust = Trust::new(&authority);
    // rustls refuses a certificate without the name that it has asked for.
    for (name, is_served) in [
        ("localhost", true),
        ("other.example", true),
        ("OTHER.example", true),
        ("a.wild.example", true),
        ("a.b.wild.example", false),
        ("wild.example", false),
        ("unknown.example", false),
    ] {
        let mut client = Client::open(broker.address(), &trust, name);
        assert_eq!(client.shake_hands(b"").is_ok(), is_served, "{name}");
    }
    broker.stop();
}

#[test]
fn a_client_that_names_another_protocol_is_refused() {
    let authority = Authority::new("authority");
    let broker = start_in(directory(&authority), Io::Auto, &listener(""), &[], 1);
    for (protocols, is_served) in
        [(vec![], true), (vec!["mqtt"], true), (vec!["h2", "mqtt"], true), (vec!["h2"], false)]
    {
        let mut trust = Trust::new(&authority);
        trust.0.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(is_let_in(&broker, &trust), is_served, "{protocols:?}");
        if !is_served {
            let mut client = Client::open(broker.address(), &trust, "localhost");
            let refused = client.shake_hands(b"").expect_err("it has just been refused");
            let alert = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
            assert_eq!(refused, alert, "the client is told why");
        }
    }
    broker.stop();
}

#[test]
fn a_second_connection_resumes_the_first_with_one_ticket() {
    let authority = Authority::new("authority");
    let broker = start_in(directory(&authority), Io::Auto, &listener(""), &[], 1);
    for version in BOTH {
        let trust = Trust::of(&authority, None, &[version]);
        let kinds: Vec<_> = (0..3).map(|_| kind(&broker, &trust)).collect();
        assert_eq!(
            kinds,
            [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed],
            "{version:?}"
        );
    }
    broker.stop();
}

/// The kind of handshake of a client that is let in.
fn kind(broker: &Broker, trust: &Trust) -> HandshakeKind {
    let mut client = Client::open(broker.address(), trust, "localhost");
    client.shake_hands(&Connect::new(Version::V5, "client").encode()).expect("it is let in");
    // The ticket comes before CONNACK.
    assert_eq!(client.hear(1).expect("it is let in"), [0x20]);
    client.tls.handshake_kind().expect("the handshake is over")
}

fn with_clients(authority: &Authority, wanted: &str, keys: &str) -> (Directory, String) {
    let keys = format!("client_ca = \"ca.pem\"\nclient_certificate = \"{wanted}\"\n{keys}");
    (directory(authority), listener(&keys))
}

fn trusts(authority: &Authority, certificate: &Certificate) -> [Trust; 2] {
    BOTH.iter()
        .map(|version| Trust::of(authority, Some(certificate), &[version]))
        .collect::<Vec<_>>()
        .try_into()
        .ok()
        .expect("two")
}

#[test]
fn a_certificate_that_is_required_must_be_there_and_of_the_authority() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let known = authority.certificate("device", &[], 7);
    let unknown = other.certificate("device", &[], 8);
    for (mode, without) in [("require", false), ("optional", true)] {
        let (directory, config) = with_clients(&authority, mode, "");
        let broker = start_in(directory, Io::Auto, &config, &[], 1);
        for version in BOTH {
            let nobody = Trust::of(&authority, None, &[version]);
            assert_eq!(is_let_in(&broker, &nobody), without, "{mode} {version:?}");
        }
        for trust in trusts(&authority, &known) {
            assert!(is_let_in(&broker, &trust), "{mode}");
        }
        for trust in trusts(&authority, &unknown) {
            assert!(!is_let_in(&broker, &trust), "{mode}");
        }
        broker.stop();
    }
}

/// The name in the certificate counts, whatever the client calls itself in CONNECT.
#[test]
fn a_certificate_names_the_user_of_its_client() {
    let authority = Authority::new("authority");
    let (directory, config) = with_clients(&authority, "require", "username_from = \"cn\"\n");
    let config = config.replace("[listener.tls]", "auth = [\"certificate\"]\n[listener.tls]")
        + "[rules]\nroles = [\"device\"]\n[role.device]\npublish = [\"devices/%u/#\"]\n";
    let broker = start_in(directory, Io::Auto, &config, &[], 1);
    for trust in trusts(&authority, &authority.certificate("pump-7", &[], 7)) {
        let tunnel = tunnel::open(broker.address(), trust);
        let connect = Connect::new(Version::V5, "client").with_credentials("pump-8", b"");
        let mut client = Peer::connect(tunnel, &connect);
        // No subscriber matches.
        assert_eq!(client.publish(&Publish::new("devices/pump-7/up", 1, b"")), 0x10);
        assert_eq!(client.publish(&Publish::new("devices/pump-8/up", 1, b"")), 0x87);
        client.disconnect();
    }
    broker.stop();
}

/// The name in the certificate is known before CONNECT, so the client goes to the shard of that identifier at once.
#[test]
fn a_certificate_gives_its_client_the_client_identifier() {
    let authority = Authority::new("authority");
    for (from, mismatch) in [("cn", "refuse"), ("username", "replace")] {
        let keys = format!("client_id_from = \"{from}\"\nclient_id_mismatch = \"{mismatch}\"\n");
        let (directory, config) = with_clients(&authority, "require", &keys);
        let broker = start_in(directory, Io::Auto, &config, &["--shards", "2"], 1);
        // Some of them live on either shard.
        for number in 0..6 {
            let name = format!("pump-{number}");
            let certificate = authority.certificate(&name, &[], 7);
            let tunnel = tunnel::open(broker.address(), Trust::of(&authority, Some(&certificate), BOTH));
            let client = Peer::connect(tunnel, &Connect::new(Version::V5, ""));
            assert_eq!(client.text(property::ASSIGNED_CLIENT_ID).as_deref(), Some(&*name));
            // The same one takes it over.
            let mut equal = Peer::connect(tunnel, &Connect::new(Version::V3_1_1, &name));
            drop(client);
            let (mut other, reason) = Peer::try_connect(tunnel, &Connect::new(Version::V5, "valve"));
            if mismatch == "refuse" {
                assert_eq!(reason, 0x85);
                equal.ping();
                other.await_close();
            } else {
                assert_eq!((reason, other.text(property::ASSIGNED_CLIENT_ID)), (0, None));
                assert_eq!(equal.await_close(), None, "the other one has its identifier");
                other.ping();
            }
        }
        broker.stop();
    }
}

/// A session that is resumed would skip the certificate, and with it its revocation.
#[test]
fn nothing_is_resumed_where_certificates_count() {
    let authority = Authority::new("authority");
    let known = authority.certificate("device", &[], 7);
    for mode in ["require", "optional"] {
        let (directory, config) = with_clients(&authority, mode, "");
        // A listener that asks for nothing gives tickets, which are worth nothing at the other.
        let open = config.replace("name = \"devices\"", "name = \"open\"");
        let open = open.split("client_ca").next().expect("there is a beginning").to_owned();
        let broker = start_in(directory, Io::Auto, &format!("{open}\n{config}"), &[], 2);
        for trust in trusts(&authority, &known) {
            for address in [broker.addresses()[0], broker.addresses()[1], broker.addresses()[1]] {
                let mut client = Client::open(address, &trust, "localhost");
                client.shake_hands(&Connect::new(Version::V5, "client").encode()).expect("it is let in");
                assert_eq!(client.hear(1).expect("it is let in"), [0x20]);
                assert_eq!(client.tls.handshake_kind(), Some(HandshakeKind::Full), "{mode}");
            }
        }
        broker.stop();
    }
}

#[test]
fn a_revoked_certificate_and_one_without_a_valid_list_are_refused() {
    let authority = Authority::new("authority");
    let [good, bad] = [7, 8].map(|serial| authority.certificate("device", &[], serial));
    for (list, good_is_let_in) in
        [(authority.revoked(&[8], true), true), (authority.revoked(&[8], false), false)]
    {
        let (directory, config) = with_clients(&authority, "require", "crl = [\"ca.crl\"]\n");
        directory.write("ca.crl", &list);
        let broker = start_in(directory, Io::Auto, &config, &[], 1);
        for (good, bad) in trusts(&authority, &good).iter().zip(trusts(&authority, &bad)) {
            assert_eq!(is_let_in(&broker, good), good_is_let_in);
            assert!(!is_let_in(&broker, &bad));
        }
        broker.stop();
    }
    // The list of another authority says nothing about this one.
    let (directory, config) = with_clients(&authority, "require", "crl = [\"ca.crl\"]\n");
    directory.write("ca.crl", &Authority::new("other").revoked(&[8], true));
    let broker = start_in(directory, Io::Auto, &config, &[], 1);
    assert!(trusts(&authority, &good).iter().all(|trust| !is_let_in(&broker, trust)));
    broker.stop();
}

/// A device that was stolen stayed connected for as long as it liked.
#[test]
fn a_certificate_that_is_revoked_closes_its_open_connections() {
    let authority = Authority::new("authority");
    let (directory, config) = with_clients(&authority, "require", "crl = [\"ca.crl\"]\n");
    directory.write("ca.crl", &authority.revoked(&[], true));
    let mut broker = start_in(directory, Io::Auto, &config, &["--shards", "2"], 1);
    let connect = |broker: &Broker, serial: u64, name: &str, version| {
        let trust = Trust::of(&authority, Some(&authority.certificate(name, &[], serial)), BOTH);
        let tunnel = tunnel::open(broker.address(), trust);
        Peer::connect(tunnel, &Connect::new(version, name))
    };
    let names: Vec<String> = (0..6).map(|number| format!("device-{number}")).collect();
    let mut stolen: Vec<Peer> = names
        .iter()
        .map(|name| {
            connect(&broker, 8, name, if name.ends_with('0') { Version::V3_1_1 } else { Version::V5 })
        })
        .collect();
    let mut good = connect(&broker, 7, "good", Version::V5);
    broker.directory().write("ca.crl", &authority.revoked(&[8, 9], true));
    broker.process().signal(rustix::process::Signal::HUP);
    for (number, client) in stolen.iter_mut().enumerate() {
        assert_eq!(client.await_close(), (number > 0).then_some(0x98));
    }
    good.ping();
    broker.stop();
}
