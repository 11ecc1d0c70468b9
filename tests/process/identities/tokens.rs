//! Signed tokens, as passwords and by AUTH.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::signature::{Ed25519KeyPair, KeyPair as _};

use super::{login, serve, start, stop_without};
use crate::harness::broker::Directory;
use crate::harness::packet::{Connect, Properties, Version, auth, property};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::harness::time::unix_s;

/// An issuer with a key of Ed25519.
struct Issuer {
    pair: Ed25519KeyPair,
    key_id: &'static str,
}

impl Issuer {
    fn new(seed: u8, key_id: &'static str) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed has 32 bytes"), key_id }
    }

    /// The set of its public key.
    fn key_set(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{}","x":"{x}"}}]}}"#, self.key_id)
    }

    /// A token for `user` that ends in so many seconds.
    fn token(&self, user: &str, seconds: i64) -> String {
        let end = unix_s() + seconds;
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.key_id);
        let claims = format!(r#"{{"sub":"{user}","exp":{end},"iss":"https://id.example.com","aud":"mqtt"}}"#);
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes())))
    }
}

#[test]
fn a_token_is_a_password_and_what_is_none_is_left_to_the_next_method() {
    let (issuer, stranger) = (Issuer::new(1, "k1"), Issuer::new(2, "k1"));
    let directory = Directory::new();
    directory.write("jwks.json", &issuer.key_set());
    directory.write(
        "passwords",
        "alice:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n",
    );
    let config = "\
anonymous = false
[auth.jwt]
keys = [\"jwks.json\"]
audience = \"mqtt\"
names = [\"dev-*\"]
[auth.password]
file = \"passwords\"
";
    let broker = start(directory, config);
    let (right, ended) = (issuer.token("dev-7", 60), issuer.token("dev-7", -3_600));
    for (username, password, expected) in [
        (Some("anything"), right.as_str(), 0),
        (None, &right, 0),
        (Some("dev-7"), &ended, 0x86),
        (Some("dev-7"), &stranger.token("dev-7", 60), 0x86),
        (Some("admin"), &issuer.token("admin", 60), 0x86),
        (Some("dev-7"), &right[..right.len() - 4], 0x86),
        (Some("alice"), "password", 0),
        (Some("alice"), "wrong", 0x86),
        (Some("dev-7"), "password", 0x86),
    ] {
        let code = login(broker.address(), Version::V5, username, Some(password.as_bytes()));
        assert_eq!(code, expected, "{username:?} {password}");
    }
    assert_eq!(login(broker.address(), Version::V3_1_1, Some("u"), Some(right.as_bytes())), 0);
    stop_without(broker, &[&right, &ended]);
}

#[test]
fn a_token_travels_in_auth_where_it_can_be_renewed() {
    let issuer = Issuer::new(1, "k1");
    let directory = Directory::new();
    directory.write("jwks.json", &issuer.key_set());
    let broker = start(directory, "[auth.jwt]\nkeys = [\"jwks.json\"]\nfrom = \"method\"\n");
    let named = |token: &str| {
        Properties::new()
            .text(property::AUTHENTICATION_METHOD, "JWT")
            .text(property::AUTHENTICATION_DATA, token)
    };
    let connect = |token: &str| {
        let mut connect = Connect::new(Version::V5, "dev-7");
        connect.properties = named(token);
        Peer::try_connect(broker.address(), &connect)
    };
    let (_, refused) = connect(&issuer.token("dev-7", -3_600));
    assert_eq!(refused, 0x86);
    let (mut peer, accepted) = connect(&issuer.token("dev-7", 60));
    assert_eq!(accepted, 0);
    peer.send(&auth(0x19, &named(&issuer.token("dev-7", 600))));
    match peer.await_packet("AUTH", |packet| matches!(packet, Received::Auth { .. })) {
        Received::Auth { reason, .. } => assert_eq!(reason, 0),
        other => unreachable!("{other:?} is not an AUTH"),
    }
    peer.send(&auth(0x19, &named("no token")));
    assert_eq!(peer.await_close(), Some(0x87), "an open connection is told 0x87");
    // As a password the token is nothing here.
    assert_eq!(
        login(broker.address(), Version::V5, Some("u"), Some(issuer.token("dev-7", 60).as_bytes())),
        0x86
    );
    broker.stop();
}

#[test]
fn the_keys_of_an_issuer_are_fetched_and_one_that_fails_keeps_nobody_else_out() {
    let issuer = Issuer::new(3, "k3");
    let set = issuer.key_set();
    let address = serve(move |request| match request.line.as_str() {
        "GET /jwks HTTP/1.1" => ("200 OK".to_owned(), set.clone()),
        // A redirect is not followed.
        _ => ("302 Found\r\nlocation: /jwks".to_owned(), String::new()),
    });
    let config = format!(
        "[auth.jwt]\nkeys = [\"http://{address}/moved\", \"http://{address}/jwks\"]\n\
         issuer = \"https://id.example.com\"\naudience = \"mqtt\"\n"
    );
    let mut broker = start(Directory::new(), &config);
    broker.process().wait_for(0, "the keys", |line| line.contains("fetched the keys of an issuer"));
    let code = |token: &str| login(broker.address(), Version::V5, Some("u"), Some(token.as_bytes()));
    assert_eq!(code(&issuer.token("dev-7", 60)), 0);
    assert_eq!(code(&Issuer::new(3, "k4").token("dev-7", 60)), 0x86, "another key");
    let (finished, _) = broker.stop();
    assert!(finished.output.contains("the service answers 302"), "{}", finished.output);
}
