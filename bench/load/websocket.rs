//! A client's half of WebSocket, as little of it as the load needs: frames with a mask of zeros, which a server removes like any other.

use std::io;
use std::net::TcpStream;

use crate::transport::Transport;

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Progress through the frames of a broker.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; 10],
    head_bytes: usize,
    /// Payload of the frame that has not come.
    left: usize,
}

impl Frames {
    /// Joins the payload at the front of `bytes`; returns its length.
    pub(crate) fn unwrap(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut joined) = (0, 0);
        while at < bytes.len() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len() - at);
                bytes.copy_within(at..at + taken, joined);
                (at, joined, self.left) = (at + taken, joined + taken, self.left - taken);
                continue;
            }
            self.head[self.head_bytes] = bytes[at];
            (at, self.head_bytes) = (at + 1, self.head_bytes + 1);
            let length = match (self.head_bytes, self.head[1]) {
                (4, 126) => usize::from(u16::from_be_bytes([self.head[2], self.head[3]])),
                (10, 127) => self.head[2..].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                (0 | 1, _) | (_, 126 | 127) => continue,
                (_, length) => usize::from(length),
            };
            if self.head[0] != 0x82 {
                return Err(io::Error::other(format!("a frame that begins with {:#x}", self.head[0])));
            }
            (self.left, self.head_bytes) = (length, 0);
        }
        Ok(joined)
    }
}

/// Appends a frame.
pub(crate) fn wrap(payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x82);
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => out.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            out.push(0xfe);
            out.extend(length.to_be_bytes());
        }
        Err(_) => {
            out.push(0xff);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend_from_slice(payload);
}

/// Opens a WebSocket on a new connection.
pub(crate) fn open(transport: &mut Transport<TcpStream>) -> io::Result<()> {
    let taken = transport.write(REQUEST)?;
    assert!(taken == REQUEST.len(), "a blocking socket takes everything");
    let mut answer = Vec::new();
    let mut byte = [0];
    // The broker says nothing more before CONNECT.
    while !answer.ends_with(b"\r\n\r\n") {
        if transport.read(&mut byte)? == 0 {
            return Err(io::Error::other("the broker closed instead of an answer"));
        }
        answer.push(byte[0]);
    }
    if answer.starts_with(b"HTTP/1.1 101 ") { Ok(()) } else { Err(io::Error::other("no WebSocket")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_joined_however_they_are_cut() {
        let payload = vec![b'x'; 70_000];
        let lengths = [1, 125, 126, 65_535, 65_536];
        let mut bytes = Vec::new();
        for length in lengths {
            let mut frame = Vec::new();
            wrap(&payload[..length], &mut frame);
            // A broker's frame has no mask.
            let mask_at = frame.len() - length - 4;
            frame[1] &= 0x7f;
            frame.drain(mask_at..mask_at + 4);
            bytes.extend(frame);
        }
        for piece in [1, 7, bytes.len()] {
            let mut frames = Frames::default();
            let joined: usize =
                bytes.clone().chunks_mut(piece).map(|bytes| frames.unwrap(bytes).unwrap()).sum();
            assert_eq!(joined, lengths.iter().sum::<usize>());
        }
    }
}
