//! SCRAM-SHA-256 over AUTH, by a client of our own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crypto::{digest, hmac, pbkdf2};

use super::start;
use crate::harness::broker::{Broker, Directory};
use crate::harness::packet::{Connect, Properties, Version, auth, property};
use crate::harness::peer::Peer;
use crate::harness::received::{Received, text};

const METHOD: &str = "SCRAM-SHA-256";

fn hmac_sha256(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn salted(password: &str, salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut salted = [0; 32];
    let iterations = iterations.try_into().expect("iterations are above zero");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
    salted
}

/// The line of a user in the password file.
pub(crate) fn line(user: &str, password: &str) -> String {
    let salted = salted(password, b"0123456789abcdef", 4096);
    let stored_key = sha256(&hmac_sha256(&salted, b"Client Key"));
    let server_key = hmac_sha256(&salted, b"Server Key");
    let salt = BASE64.encode(b"0123456789abcdef");
    format!("{user}:SCRAM-SHA-256$4096:{salt}${}:{}\n", BASE64.encode(stored_key), BASE64.encode(server_key))
}

fn named(data: &str) -> Properties {
    Properties::new().text(property::AUTHENTICATION_METHOD, METHOD).text(property::AUTHENTICATION_DATA, data)
}

/// The client's last message and the server's that must answer it, for the server's first message.
fn prove(bare: &str, challenge: &str, password: &str) -> (String, String) {
    let part = |name: &str| {
        challenge.split(',').find_map(|part| part.strip_prefix(name)).expect("the challenge has this part")
    };
    let salt = BASE64.decode(part("s=")).expect("the salt is base64");
    let salted = salted(password, &salt, part("i=").parse().expect("iterations are a number"));
    let unproved = format!("c=biws,r={}", part("r="));
    let signed = format!("{bare},{challenge},{unproved}");
    let client_key = hmac_sha256(&salted, b"Client Key");
    let signature = hmac_sha256(&sha256(&client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
    let server = hmac_sha256(&hmac_sha256(&salted, b"Server Key"), signed.as_bytes());
    (format!("{unproved},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(server)))
}

fn next_challenge(peer: &mut Peer) -> String {
    match peer.await_packet("AUTH", |packet| matches!(packet, Received::Auth { .. })) {
        Received::Auth { reason: 0x18, properties } => {
            text(&properties, property::AUTHENTICATION_DATA).expect("a challenge has data")
        }
        other => panic!("{other:?} is no challenge"),
    }
}

/// Connects as `user`, and returns the code of CONNACK and the challenge.
fn connect(broker: &Broker, user: &str, password: &str) -> (Peer, u8, String) {
    let mut peer = Peer::open(broker.address(), Version::V5);
    begin(&mut peer, None, user);
    let (code, challenge) = end(&mut peer, user, password);
    (peer, code, challenge)
}

fn bare(user: &str) -> String {
    format!("n={user},r=nonce-of-the-client")
}

/// Sends CONNECT, with this name in it, and the first message of `user`.
pub(crate) fn begin(peer: &mut Peer, username: Option<&str>, user: &str) {
    let mut connect = Connect::new(Version::V5, "client");
    connect.username = username;
    connect.properties = named(&format!("n,,{}", bare(user)));
    peer.send(&connect.encode());
}

/// Proves a password for the challenge that comes, and returns the code of CONNACK and the challenge.
pub(crate) fn end(peer: &mut Peer, user: &str, password: &str) -> (u8, String) {
    let challenge = next_challenge(peer);
    let (last, expected) = prove(&bare(user), &challenge, password);
    peer.send(&auth(0x18, &named(&last)));
    let code = peer.await_connack();
    if code == 0 {
        assert_eq!(peer.text(property::AUTHENTICATION_DATA), Some(expected), "the server proves itself");
    }
    (code, challenge)
}

#[test]
fn a_client_and_the_broker_prove_a_password_that_does_not_travel() {
    let directory = Directory::new();
    directory.write("passwords", &(line("alice", "pencil") + &line("bob", "crayon")));
    let broker = start(directory, "[auth.scram]\nfile = \"passwords\"\n");
    let (mut alice, code, _) = connect(&broker, "alice", "pencil");
    assert_eq!(code, 0);
    alice.ping();
    // Again, on the open connection.
    let bare = "n=alice,r=another-nonce";
    alice.send(&auth(0x19, &named(&format!("n,,{bare}"))));
    let challenge = next_challenge(&mut alice);
    let (last, expected) = prove(bare, &challenge, "pencil");
    alice.send(&auth(0x18, &named(&last)));
    match alice.await_packet("AUTH", |packet| matches!(packet, Received::Auth { .. })) {
        Received::Auth { reason: 0, properties } => {
            assert_eq!(text(&properties, property::AUTHENTICATION_DATA), Some(expected));
        }
        other => panic!("{other:?} is no success"),
    }
    // A wrong proof ends it.
    alice.send(&auth(0x19, &named(&format!("n,,{bare}"))));
    let challenge = next_challenge(&mut alice);
    alice.send(&auth(0x18, &named(&prove(bare, &challenge, "pen").0)));
    assert_eq!(alice.await_close(), Some(0x87));

    assert_eq!(connect(&broker, "bob", "crayon").1, 0);
    assert_eq!(connect(&broker, "bob", "pencil").1, 0x86);
    // A verifier also judges a password that travels, but only for a listener that asks for passwords.
    let plain = Connect::new(Version::V5, "client").with_credentials("alice", b"pencil");
    assert_eq!(Peer::try_connect(broker.address(), &plain).1, 0x86);
    broker.stop();
}

#[test]
fn an_unknown_user_is_challenged_as_a_known_one_with_a_salt_that_outlives_the_broker() {
    let directory = Directory::new();
    directory.write("passwords", &line("alice", "pencil"));
    let config = "[auth.scram]\nfile = \"passwords\"\n";
    let salt = |challenge: &str| challenge.split(',').nth(1).expect("a challenge has a salt").to_owned();
    let broker = start(directory, config);
    let (_, code, first) = connect(&broker, "mallory", "pencil");
    assert_eq!(code, 0x86);
    let (_, _, other) = connect(&broker, "malory", "pencil");
    let (_, directory) = broker.stop();
    let broker = start(directory, config);
    let (_, _, again) = connect(&broker, "mallory", "pencil");
    assert_eq!(salt(&first), salt(&again));
    assert_ne!(salt(&first), salt(&other));
    let (_, _, known) = connect(&broker, "alice", "pencil");
    assert_eq!(known.len(), again.len());
    broker.stop();
}
