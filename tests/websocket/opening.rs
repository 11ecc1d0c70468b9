//! The opening handshake, from outside.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use crate::harness::broker::{Broker, Io};
use crate::harness::websocket::{WebSocket, request};

fn broker(io: Io, websocket: &str) -> Broker {
    let config = format!("[[listener]]\nbind = [\"127.0.0.1\"]\nport = 0\nwebsocket = {websocket}\n");
    Broker::listen(io, &config, &["--shards", "1"])
}

fn ask(address: SocketAddr, request: &str) -> (WebSocket, String) {
    WebSocket::ask(TcpStream::connect(address).unwrap(), request)
}

fn status(address: SocketAddr, request: &str) -> String {
    ask(address, request).1.split(' ').nth(1).unwrap().to_owned()
}

pub(crate) fn mqtt_6_0_0_4_the_subprotocol_is_mqtt(io: Io) {
    let broker = broker(io, "{}");
    let offered = request("/mqtt", "").replace("Protocol: mqtt\r\n", "Protocol: chat, mqttv3.1, mqtt\r\n");
    let (_, head) = ask(broker.address(), &offered);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
}

pub(crate) fn a_request_that_is_not_granted_is_told_why(io: Io) {
    let broker = broker(io, "{ path = \"/broker\" }");
    for (request, status, why) in [
        (request("/mqtt", ""), "404", "path"),
        (request("/broker", "Origin: https://app.example.com\r\n"), "403", "origin"),
        (request("/broker", "Content-Length: 3\r\n"), "400", "body"),
        (request("/broker", "").replace("Version: 13", "Version: 12"), "426", "13"),
        (request("/broker", "").replace("Protocol: mqtt", "Protocol: chat"), "400", "mqtt"),
    ] {
        let (socket, head) = ask(broker.address(), &request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let body = socket.rest();
        assert!(body.contains(why), "{body}");
    }
    // MQTT without a WebSocket, to this port: closed at once.
    let (_, head) = ask(broker.address(), "\u{10}\u{c}\0\u{4}MQTT\u{4}\u{2}\0\0\0\0");
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

pub(crate) fn pages_of_listed_origins_connect(io: Io) {
    let broker = broker(io, "{ origins = [\"https://app.example.com\", \"http://localhost:8080\"] }");
    for (origin, expected) in [
        ("https://app.example.com", "101"),
        ("http://localhost:8080", "101"),
        ("http://app.example.com", "403"),
        ("null", "403"),
    ] {
        let request = request("/mqtt", &format!("Origin: {origin}\r\n"));
        assert_eq!(status(broker.address(), &request), expected, "{origin}");
    }
    assert_eq!(status(broker.address(), &request("/mqtt", "")), "101", "no browser");
}

pub(crate) fn a_request_in_pieces_is_granted(io: Io) {
    let broker = broker(io, "{}");
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = request("/mqtt", "");
    let (most, last) = request.split_at(request.len() - 2);
    for piece in most.as_bytes().chunks(50) {
        stream.write_all(piece).unwrap();
    }
    let (_, head) = WebSocket::ask(stream, last);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}
