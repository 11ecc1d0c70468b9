//! A client's half of WebSocket, by the letter of RFC 6455, and a tunnel that carries any TCP client over it. It has its own codec,
//! so that an error in the broker's codec is not repeated here.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::time::patience;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Lengths of the frames that the tunnel makes, in turn: packets never end where frames do.
const FRAME_BYTES: [usize; 6] = [1, 7, 125, 126, 3, 5_000];
/// Mask of every frame. Any four bytes do.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A request for a WebSocket at `path`, with further `fields`, each with its line end.
pub(crate) fn request(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: broker.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n{fields}\r\n"
    )
}

/// A client's frame. A message of several frames has `is_last` in its last one alone.
pub(crate) fn frame(kind: u8, is_last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(is_last) << 7 | kind];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).expect("it is below 126")),
        length @ 126..0x1_0000 => {
            bytes.push(0xfe);
            bytes.extend(u16::try_from(length).expect("it is below 2¹⁶").to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A connection that speaks WebSocket, frame by frame.
pub(crate) struct WebSocket {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl WebSocket {
    /// Sends `request`, and returns the head of the answer.
    pub(crate) fn ask(stream: TcpStream, request: &str) -> (Self, String) {
        stream.set_nodelay(true).expect("a TCP socket has this option");
        stream.set_read_timeout(Some(patience())).expect("the time-out is not zero");
        let mut this = Self { stream, bytes: Vec::new() };
        this.send(request.as_bytes());
        let end = loop {
            if let Some(at) = this.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                this.receive(),
                "no answer to {request:?}, but {:?}",
                String::from_utf8_lossy(&this.bytes)
            );
        };
        let head = this.bytes.drain(..end).collect();
        (this, String::from_utf8(head).expect("a head is text"))
    }

    /// An open WebSocket at `/mqtt`.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, patience()).expect("the broker accepts");
        let (this, head) = Self::ask(stream, &request("/mqtt", ""));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        this
    }

    /// Sends any bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    pub(crate) fn send_frame(&mut self, kind: u8, payload: &[u8]) {
        self.send(&frame(kind, true, payload));
    }

    /// Receives once. Returns whether there was anything; not after the end.
    fn receive(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.bytes.extend_from_slice(&buffer[..length]);
                length > 0
            }
            // The broker may have closed with bytes of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The next frame: its type and payload. `None` if the broker closes the connection, which it may between frames only.
    pub(crate) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((kind, payload, length)) = read_frame(&self.bytes) {
                self.bytes.drain(..length);
                return Some((kind, payload));
            }
            if !self.receive() {
                assert!(self.bytes.is_empty(), "the broker closed within a frame: {:02x?}", self.bytes);
                return None;
            }
        }
    }

    /// The bytes that come in binary frames, until there are `count`.
    pub(crate) fn payload(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next() {
                Some((BINARY, payload)) => all.extend(payload),
                other => panic!("no binary frame, but {other:?}"),
            }
        }
        all
    }

    /// The body of an answer that is no WebSocket, up to its end.
    pub(crate) fn rest(mut self) -> String {
        while self.receive() {}
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A server's first frame: its type, its payload, and its length.
fn read_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let [first, second, ..] = bytes else { return None };
    assert_eq!(first & 0xf0, 0x80, "a whole message without an extension");
    assert_eq!(second & 0x80, 0, "a server masks nothing");
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (length, start) = match second {
        126 => (number(bytes.get(2..4)?), 4),
        127 => (number(bytes.get(2..10)?), 10),
        length => (usize::from(*length), 2),
    };
    Some((first & 0x0f, bytes.get(start..start + length)?.to_vec(), start + length))
}

/// An address at which any TCP client reaches `broker` over WebSocket. Lives until the test's process ends.
pub(crate) fn tunnel(broker: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || carry(client, broker));
        }
    });
    address
}

/// One connection: this thread carries the broker's frames, another one the client's bytes.
fn carry(client: TcpStream, broker: SocketAddr) {
    let mut socket = WebSocket::open(broker);
    // A client may be silent for longer than a test waits for an answer.
    socket.stream.set_read_timeout(None).expect("a socket has this option");
    client.set_nodelay(true).expect("a TCP socket has this option");
    let writer = socket.stream.try_clone().expect("a socket can be shared");
    let reader = client.try_clone().expect("a socket can be shared");
    thread::spawn(move || wrap(reader, writer));
    let mut client = client;
    while let Some((kind, payload)) = socket.next() {
        match kind {
            BINARY if client.write_all(&payload).is_ok() => {}
            PONG => {}
            BINARY | CLOSE => break,
            other => panic!("a frame of type {other} from the broker"),
        }
    }
    // The end of the stream, after everything before it.
    let _ = client.shutdown(Shutdown::Both);
    let _ = socket.stream.shutdown(Shutdown::Both);
}

fn wrap(mut client: TcpStream, mut broker: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    let mut lengths = FRAME_BYTES.iter().cycle();
    let mut count = 0_u32;
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let mut rest = &buffer[..length];
        let mut frames = Vec::new();
        let mut is_first = true;
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(rest.len().min(*lengths.next().expect("it never ends")));
            rest = next;
            count += 1;
            // Every third frame goes on in the next one, with a ping between them.
            let is_last = rest.is_empty() || !count.is_multiple_of(3);
            frames.extend(frame(if is_first { BINARY } else { CONTINUATION }, is_last, piece));
            is_first = is_last;
            if !is_last {
                frames.extend(frame(PING, true, b"between"));
            }
        }
        if broker.write_all(&frames).is_err() {
            break;
        }
    }
    // The client is gone without a farewell, and so is the tunnel.
    let _ = broker.shutdown(Shutdown::Both);
}
