//! One request over HTTP, written byte by byte: enough to ask the broker, and to ask it what no client library would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::process::Process;
use super::time::patience;

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The header lines, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks for a path.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// Sends a request as it is, and reads to the end of the connection.
pub(crate) fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("somebody serves there");
    stream.set_read_timeout(Some(patience())).expect("the time-out is not zero");
    exchange(&mut stream, request)
}

/// The same on a stream that is open.
pub(crate) fn exchange(stream: &mut (impl Read + Write), request: &str) -> Answer {
    stream.write_all(request.as_bytes()).expect("the request is read");
    let mut answer = Vec::new();
    // A server that closes at once may reset.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("the answer is text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// The address behind `what` in the log, such as `admin serves` or `probes serve`.
pub(crate) fn address(process: &mut Process, what: &str) -> SocketAddr {
    let line = process.wait_for(0, what, |line| line.contains(what));
    let (_, url) = line.split_once("://").expect("the line names a URL");
    url.split(|end: char| end.is_whitespace() || end == '"')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("an address")
}

impl Answer {
    /// The value of a sample of metrics, such as `mqtt_sessions{shard="0"}`.
    pub(crate) fn sample(&self, name: &str) -> Option<u64> {
        let value = self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().expect("a value is a number"))
    }

    /// The sum of the samples of a family that have all of these labels.
    pub(crate) fn sum(&self, family: &str, labels: &[&str]) -> u64 {
        let of_family =
            |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = self
            .body
            .lines()
            .filter(of_family)
            .filter(|line| labels.iter().all(|label| line.contains(label)));
        lines
            .map(|line| {
                line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a number")
            })
            .sum()
    }
}
