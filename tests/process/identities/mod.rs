//! Clients that prove who they are: passwords, tokens, exchanges and the operator's service, over the network.

mod changes;
pub(crate) mod exchanges;
mod passwords;
#[cfg(target_os = "linux")]
mod secrets;
mod service;
mod tokens;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::harness::broker::{Broker, Directory, Setup};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;

/// A broker with this configuration, whose files stand in `directory`. Its log shows every detail.
fn start(directory: Directory, config: &str) -> Broker {
    Broker::start_in(
        directory,
        &Setup { config, flags: &["--log-level", "debug", "--shards", "2"], ..Setup::default() },
    )
}

/// The reason code with which a client of these credentials is answered.
fn login(broker: SocketAddr, version: Version, username: Option<&str>, password: Option<&[u8]>) -> u8 {
    let mut connect = Connect::new(version, "client");
    (connect.username, connect.password) = (username, password);
    let (mut peer, reason) = Peer::try_connect(broker, &connect);
    if reason == 0 {
        peer.ping();
        peer.disconnect();
    } else {
        peer.await_close();
    }
    reason
}

/// The refusal of bad credentials: the code of MQTT 5.0, or of those before.
fn bad_credentials(version: Version) -> u8 {
    if version.is_v5() { 0x86 } else { 4 }
}

/// Stops the broker, and asserts that its log shows none of these.
fn stop_without(broker: Broker, secrets: &[&str]) {
    let (finished, _) = broker.stop();
    for secret in secrets {
        assert!(!finished.output.contains(secret), "the log shows {secret}");
    }
}

/// A request that a server of the tests has received.
struct Request {
    line: String,
    body: String,
}

/// A server of HTTP on loopback that answers each request by `answer`: a status line and a body. It ends with the process.
fn serve(answer: impl Fn(&Request) -> (String, String) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let answer: &'static _ = Box::leak(Box::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || while answer_one(&stream, answer).is_some() {});
        }
    });
    address
}

fn answer_one(stream: &TcpStream, answer: &impl Fn(&Request) -> (String, String)) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut length = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let field = field.trim_end().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let (status, body) = answer(&Request { line: line.trim_end().to_owned(), body });
    let length = body.len();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .ok()
}
