//! The page of `[admin]` and what it alone asks: its files and their headers, the inside of the broker below `/v1`, and its client of MQTT
//! at `/mqtt`, whose password is a token.

use std::net::TcpStream;

use crate::api::{ADMIN, CONFIG, OPERATE, READ, Served, serve, serve_with};
use crate::harness::http::ask;
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};
use crate::harness::websocket::{BINARY, WebSocket, request};
use crate::operators::operate;

fn open_get(served: &Served, path: &str, fields: &str) -> crate::harness::http::Answer {
    ask(served.admin, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n"))
}

#[test]
fn the_page_runs_its_own_files_alone_and_the_inside_of_the_broker_is_told_to_tokens() {
    let served = serve();
    let page = open_get(&served, "/dashboard", "");
    assert_eq!(page.status, 200);
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self';",
        "frame-ancestors 'none'",
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(page.head.contains(header), "{header}: {}", page.head);
    }
    let script = open_get(&served, "/dashboard/dashboard.js", "");
    assert!(script.status == 200 && script.head.contains("content-type: text/javascript"), "{}", script.head);
    assert_eq!(open_get(&served, "/dashboard/../data/tokens.json", "").status, 404);
    let browser = open_get(&served, "/", "Accept: text/html,*/*\r\n");
    assert!(browser.status == 303 && browser.head.contains("location: /dashboard"), "{}", browser.head);
    assert_eq!(open_get(&served, "/", "").status, 200, "a program reads the list of paths");

    for path in ["/v1/token", "/v1/shards", "/v1/config", "/v1/certificates", "/v1/log"] {
        assert_eq!(open_get(&served, path, "").status, 401, "{path}");
    }
    let token = served.call(OPERATE, "GET", "/v1/token", "").body;
    assert!(token.contains(r#""name":"operate""#) && token.contains(r#""scope":"operate""#), "{token}");
    let shards = served.get("/v1/shards").body;
    assert_eq!(shards.matches("\"lanes\":").count(), 3, "{shards}");
    assert!(shards.contains("\"bounds_us\":[16,32,"), "{shards}");
    let keys = served.all("/v1/config");
    for expected in [
        r#""key":"shards","origin":"--shards","value":"3""#,
        r#""key":"admin.bind""#,
        "line 2",
        r#""class":"live","key":"queue_messages_max","origin":"default""#,
    ] {
        assert!(keys.contains(expected), "{expected}: {keys}");
    }
    assert_eq!(served.get("/v1/certificates").body, r#"{"rows":[]}"#);

    let _reader = Peer::connect(served.broker.address(), &Connect::new(Version::V5, "told"));
    let deadline = Deadline::after(PATIENCE);
    let (mut lines, mut next) = (String::new(), String::new());
    while !lines.contains("client connected client=\\\"told\\\"") {
        assert!(deadline.remaining().is_some(), "{lines}");
        let page = served.get(&format!("/v1/log?next={next}")).body;
        next =
            page.split_once("\"next\":\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0.to_owned();
        lines.push_str(&page);
    }
    assert!(lines.contains("listening on 127.0.0.1:"), "{lines}");
    assert!(!lines.contains("page.sock"), "clients have no place there");
    assert_eq!(lines.matches("client=\\\"told\\\"").count(), 1, "a line is told once: {lines}");
    served.broker.stop();
}

/// CONNECT of MQTT 5.0 with a name and a password.
fn connect(client_id: &str, password: &str) -> Vec<u8> {
    Connect {
        username: Some("anyone"),
        password: Some(password.as_bytes()),
        ..Connect::new(Version::V5, client_id)
    }
    .encode()
}

/// Asks for a WebSocket.
fn ask_page(served: &Served, request: &str) -> (WebSocket, String) {
    WebSocket::ask(TcpStream::connect(served.admin).expect("the admin thread accepts"), request)
}

/// The reason code of the CONNACK to a password.
fn judged(served: &Served, password: &str) -> u8 {
    let mut page = ask_page(served, &opening("")).0;
    page.send_frame(BINARY, &connect("page", password));
    page.payload(4)[3]
}

fn opening(fields: &str) -> String {
    request("/mqtt", fields).replace("Host: broker.example.com", "Host: localhost")
}

#[test]
#[cfg(unix)]
fn a_token_is_the_password_of_the_pages_client_and_its_scope_decides() {
    let rules = "[rules]\nroles = [\"all\"]\n[role.all]\npublish = [\"open/#\"]\nsubscribe = [\"open/#\"]\ndeny = [\"secret/#\"]\n";
    let served = serve_with(rules);
    assert_eq!(judged(&served, &served.tokens[READ]), 0x87, "payloads are not among what it reads");
    assert_eq!(judged(&served, "wrong"), 0x86);
    assert_eq!(judged(&served, ""), 0x86);
    // A reload whose limits differ replaces those of all listeners, and this one is in no file.
    served.broker.directory().write("test.conf", &format!("sessions_max = 7777\n{CONFIG}{rules}"));
    let reloaded = served.call(ADMIN, "POST", "/v1/reload", "");
    assert!(reloaded.status == 200 && reloaded.body.contains("sessions_max"), "{}", reloaded.body);
    assert_eq!(judged(&served, "wrong"), 0x86, "judged after a reload as before");

    let head = |fields: &str| ask_page(&served, &opening(fields)).1;
    assert!(head("Origin: http://evil.example\r\n").starts_with("HTTP/1.1 403 "));
    assert!(head("Origin: http://localhost:1\r\n").starts_with("HTTP/1.1 403 "));
    let head = head("Origin: http://localhost\r\n");
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let foreign = ask_page(&served, &request("/mqtt", "")).1;
    assert!(foreign.starts_with("HTTP/1.1 421 "), "{foreign}");

    let (mut page, _) = ask_page(&served, &opening(""));
    page.send_frame(BINARY, &connect("page", &served.tokens[OPERATE]));
    let connack = page.payload(4);
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    let subscribe = |number: u8, filter: &str| {
        let mut body = vec![0, number, 0, 0, u8::try_from(filter.len()).unwrap()];
        body.extend(filter.bytes());
        body.push(0);
        [vec![0x82, u8::try_from(body.len()).unwrap()], body].concat()
    };
    page.send_frame(BINARY, &subscribe(1, "shop/+"));
    assert_eq!(page.payload(6), [0x90, 4, 0, 1, 0, 0]);
    page.send_frame(BINARY, &subscribe(2, "secret/x"));
    let refused = page.payload(6);
    assert_eq!((refused[0], refused.last()), (0x90, Some(&0x87)), "what is denied to everybody");
    // PUBLISH of QoS 0 to shop/1, which comes back.
    let publish = [&[0x30, 11, 0, 6][..], b"shop/1", &[0], b"hi"].concat();
    page.send_frame(BINARY, &publish);
    assert_eq!(page.payload(13), publish);
    let listed = served.get("/v1/clients/page").body;
    for expected in [r#""user":"token:operate""#, r#""listener":"[admin]""#, r#""peer":"127.0.0.1:"#] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }
    assert_eq!(served.call(ADMIN, "DELETE", "/v1/clients/page", "").status, 200);
    assert_eq!(page.payload(2)[0], 0xe0, "DISCONNECT");

    assert!(operate(&served.broker, &["token", "remove", "operate"]).status.success());
    assert_eq!(judged(&served, &served.tokens[OPERATE]), 0x86, "a token that was removed lets nobody in");
    let (finished, directory) = served.broker.stop();
    for token in &served.tokens {
        assert!(!finished.output.contains(token.as_str()), "no secret is logged");
    }
    assert!(!directory.path().join("data/page.sock").exists());
}

#[test]
#[cfg(unix)]
fn pages_are_few_and_a_client_of_one_that_leaves_makes_room() {
    let served = serve();
    let open = || ask_page(&served, &opening(""));
    let mut pages: Vec<_> = (0..4).map(|_| open()).collect();
    assert!(pages.iter().all(|(_, head)| head.starts_with("HTTP/1.1 101 ")));
    assert!(open().1.starts_with("HTTP/1.1 503 "), "there are four already");
    drop(pages.pop());
    let deadline = Deadline::after(PATIENCE);
    while !open().1.starts_with("HTTP/1.1 101 ") {
        assert!(deadline.remaining().is_some(), "the place is not free");
    }
    served.broker.stop();
}
