//! A broker for tests that drops, repeats and reorders messages deliberately, so that the generator's ledger can be
//! checked against the known faults. Serves MQTT 3.1.1 at QoS 0 to loopback until the test's process ends. Has no
//! wildcards: topics and filters are compared as text.

#![expect(
    clippy::disallowed_types,
    reason = "the connections are threads that share the subscribers and the counts"
)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The intervals, in messages, at which one is dropped, sent twice, or delayed until the next one. 0: never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) drop: u64,
    pub(crate) double: u64,
    pub(crate) swap: u64,
}

/// The faults so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) dropped: u64,
    pub(crate) doubled: u64,
    pub(crate) swapped: u64,
}

#[derive(Default)]
struct State {
    subscribers: Vec<(Vec<u8>, TcpStream)>,
    count: u64,
    held: Option<Vec<u8>>,
    done: Done,
}

#[derive(Clone)]
pub(crate) struct FaultyBroker {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FaultyBroker {
    pub(crate) fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // If a client is gone, its thread ends. The test checks the ledger, not this error.
                thread::spawn(move || serve(stream, faults, &state));
            }
        });
        Self { address, state }
    }

    pub(crate) fn done(&self) -> Done {
        self.state.lock().expect("no thread of the broker panics").done
    }
}

fn serve(mut stream: TcpStream, faults: Faults, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let (first_byte, body) = packet(&mut stream)?;
        match first_byte >> 4 {
            1 => stream.write_all(&[0x20, 2, 0, 0])?,
            3 => state.lock().expect("no thread of the broker panics").route(faults, first_byte, &body)?,
            8 => {
                let length = usize::from(u16::from_be_bytes([body[2], body[3]]));
                let filter = body[4..4 + length].to_vec();
                let subscriber = stream.try_clone()?;
                state.lock().expect("no thread of the broker panics").subscribers.push((filter, subscriber));
                stream.write_all(&[0x90, 3, body[0], body[1], 0])?;
            }
            _ => return Ok(()),
        }
    }
}

impl State {
    fn route(&mut self, faults: Faults, first_byte: u8, body: &[u8]) -> io::Result<()> {
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = &body[2..2 + length];
        let mut bytes = vec![first_byte, u8::try_from(body.len()).expect("the test's messages are short")];
        bytes.extend(body);
        self.count += 1;
        let is_due = |every: u64| every > 0 && self.count.is_multiple_of(every);
        let mut out = Vec::new();
        if is_due(faults.drop) {
            self.done.dropped += 1;
        } else if is_due(faults.swap) && self.held.is_none() {
            self.held = Some(bytes);
            self.done.swapped += 1;
        } else {
            if is_due(faults.double) {
                self.done.doubled += 1;
                out.extend(&bytes);
            }
            out.extend(&bytes);
            out.extend(self.held.take().unwrap_or_default());
        }
        for (filter, subscriber) in &mut self.subscribers {
            if filter == topic {
                subscriber.write_all(&out)?;
            }
        }
        Ok(())
    }
}

fn packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let first_byte = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((first_byte, body))
}
