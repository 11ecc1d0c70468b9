//! The operator's service over HTTP.

use std::sync::{OnceLock, mpsc};
use std::thread;

use super::{login, serve, start, stop_without};
use crate::harness::broker::Directory;
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::time::unix_s;

#[test]
fn the_service_decides_and_its_errors_let_nobody_in() {
    let (sender, requests) = mpsc::channel();
    let address = serve(move |request| {
        let _ = sender.send(format!("{}\n{}", request.line, request.body));
        let json: serde_json::Value = serde_json::from_str(&request.body).expect("the question is JSON");
        let (status, body) = match json["username"].as_str() {
            Some("alice") if json["password"] == "s3cret-of-alice" => {
                ("200 OK", r#"{"result":"allow","is_superuser":false}"#)
            }
            Some("ignored") => ("200 OK", r#"{"result":"ignore"}"#),
            Some("error") => ("500 Internal Server Error", r#"{"result":"allow"}"#),
            Some("moved") => ("307 Temporary Redirect\r\nlocation: /elsewhere", r#"{"result":"allow"}"#),
            Some("damaged") => ("200 OK", r#"{"result":"#),
            Some("long") => {
                return (
                    "200 OK".to_owned(),
                    format!("{{\"result\":\"allow\",\"x\":\"{}\"}}", "x".repeat(300_000)),
                );
            }
            _ => ("200 OK", r#"{"result":"deny"}"#),
        };
        (status.to_owned(), body.to_owned())
    });
    let config = format!("anonymous = false\n[auth.http]\nurl = \"http://{address}/mqtt?tenant=1\"\n");
    let broker = start(Directory::new(), &config);
    let code = |user: &str, password: &[u8]| login(broker.address(), Version::V5, Some(user), Some(password));
    assert_eq!(code("alice", b"s3cret-of-alice"), 0);
    let request = requests.recv().expect("the service was asked");
    assert!(request.starts_with("POST /mqtt?tenant=1 HTTP/1.1\n"), "{request}");
    for part in [r#""clientid":"client""#, r#""peerhost":"127.0.0.1""#, r#""listener":"default""#] {
        assert!(request.contains(part), "{request}");
    }
    for user in ["alice", "ignored", "error", "moved", "damaged", "long"] {
        assert_eq!(code(user, b"wrong"), 0x86, "{user}");
    }
    assert_eq!(code("alice", &[0xFF, 0xFE]), 0x86, "no text");
    assert_eq!(login(broker.address(), Version::V5, None, None), 0x86);
    let asked = requests.try_iter().filter(|request| request.contains("null")).count();
    assert_eq!(asked, 0, "a client that sent nothing is not asked about");
    stop_without(broker, &["s3cret-of-alice"]);
}

#[test]
fn a_service_that_is_silent_is_waited_for_in_bounds() {
    let end: &'static OnceLock<()> = Box::leak(Box::default());
    let silent = serve(move |_| {
        // Until the test ends.
        end.wait();
        ("200 OK".to_owned(), r#"{"result":"allow"}"#.to_owned())
    });
    let config = format!("[auth.http]\nurl = \"http://{silent}/\"\ntimeout_ms = 1500\nconcurrent_max = 2\n");
    let broker = start(Directory::new(), &config);
    let address = broker.address();
    let mut codes: Vec<u8> = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..4).map(|_| scope.spawn(|| login(address, Version::V5, Some("alice"), Some(b"x")))).collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    });
    codes.sort_unstable();
    assert_eq!(codes, [0x86, 0x86, 0x89, 0x89], "two time out, and two find no room");
    // Meanwhile clients that the service is not asked about come and go.
    let (peer, code) = Peer::try_connect(broker.address(), &Connect::new(Version::V5, "anonymous"));
    assert_eq!(code, 0);
    peer.disconnect();
    end.set(()).expect("the test ends once");
    broker.stop();
}

#[test]
fn a_client_is_closed_when_its_time_is_over() {
    let service = serve(|_| {
        let now = unix_s();
        ("200 OK".to_owned(), format!("{{\"result\": \"allow\", \"expire_at\": {}}}", now + 2))
    });
    let broker = start(
        Directory::new(),
        &format!("anonymous = false\n[auth.http]\nurl = \"http://{service}/mqtt\"\n"),
    );
    let connect = Connect::new(Version::V5, "client").with_credentials("ann", b"any");
    let mut peer = Peer::connect(broker.address(), &connect);
    assert_eq!(peer.await_close(), Some(0xA0));
    broker.stop();
}
