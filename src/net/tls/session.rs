//! The TLS state of one connection, on the interface of rustls that has no buffers.
//!
//! Invariants:
//! - Every record that came is taken out at once, so no plaintext waits where no event would tell of it.
//! - Bytes kept between two receives are less than a record, or less than a handshake message that has a bound.
//! - The state of rustls is made with the first byte: a silent connection costs nothing of it.

use std::fmt;
use std::mem;

use rustls::server::{ServerConfig, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

use super::Shared;

/// The longest record that rustls takes, with its header.
pub(crate) const RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2_048;
/// Bytes of a handshake message that came in part, at most; rustls would keep 64 KiB.
pub(crate) const KEPT_BYTES_MAX: usize = 32 * 1024;
/// Plaintext of one record.
pub(crate) const PLAIN_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a record is longer than its plaintext, at most: header, nonce of TLS 1.2, type and tag.
const OVERHEAD_BYTES_MAX: usize = 64;
/// The state of rustls and of its ciphers behind it, as measured for an idle connection.
const SESSION_BYTES: usize = 3_400;

const _: () = assert!(KEPT_BYTES_MAX >= RECORD_BYTES_MAX);

/// **Lives on:** the shard of its connection. It moves with it.
pub(crate) struct Tls {
    state: State,
    /// Received bytes that are no whole record, or no whole message of the handshake. Those of a message are decrypted, as rustls
    /// left them.
    kept: Vec<u8>,
    has_said_goodbye: bool,
}

enum State {
    /// Nothing was received.
    Silent(Shared<ServerConfig>),
    Running(Box<UnbufferedServerConnection>),
}

/// The reason why TLS ended. The peer was at fault, or its bytes were changed on their way.
#[derive(Debug)]
pub(crate) enum TlsFault {
    Refused(rustls::Error),
    /// A message of the handshake is longer than anything that a client has to say.
    MessageTooLong,
    /// The keys are used up; TLS 1.2 has no new ones for a connection.
    KeysUsedUp,
    /// The handshake went on where it was over.
    OutOfOrder,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(formatter),
            Self::MessageTooLong => {
                write!(formatter, "a handshake message is longer than {KEPT_BYTES_MAX} bytes")
            }
            Self::KeysUsedUp => formatter.write_str("the connection has sent all that its keys may protect"),
            Self::OutOfOrder => formatter.write_str("the handshake is not over"),
        }
    }
}

impl std::error::Error for TlsFault {}

impl From<rustls::Error> for TlsFault {
    fn from(error: rustls::Error) -> Self {
        Self::Refused(error)
    }
}

/// What came out of received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// More may come.
    GoesOn,
    /// The peer has said that it sends no more.
    Ended,
}

impl Tls {
    /// A connection from which nothing has come.
    pub(crate) fn new(config: Shared<ServerConfig>) -> Self {
        Self { state: State::Silent(config), kept: Vec::new(), has_said_goodbye: false }
    }

    /// Whether the next bytes belong to the handshake, which costs more than all that follows.
    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.state {
            State::Silent(_) => true,
            State::Running(session) => session.is_handshaking(),
        }
    }

    /// Bytes that it holds beside itself.
    pub(crate) fn held_bytes(&self) -> usize {
        let session = match &self.state {
            State::Silent(_) => 0,
            State::Running(_) => SESSION_BYTES,
        };
        session + self.kept.capacity()
    }

    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Copies what was kept to the front of `buffer`; returns its length. Bytes that are received go behind it.
    pub(crate) fn begin_receive(&self, buffer: &mut [u8]) -> usize {
        buffer[..self.kept.len()].copy_from_slice(&self.kept);
        self.kept.len()
    }

    /// Takes bytes, of which the first are those of [`Tls::begin_receive`]. Appends what the peer said to `plain`, and the answers
    /// of TLS itself to `own`.
    ///
    /// # Errors
    /// If the peer is at fault. `own` then ends with an alert that tells it so.
    pub(crate) fn receive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        own: &mut Vec<u8>,
    ) -> Result<Opened, TlsFault> {
        let session = self.state.session()?;
        let (mut at, mut opened) = (0, Opened::GoesOn);
        loop {
            let UnbufferedStatus { mut discard, state } = session.process_tls_records(&mut incoming[at..]);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    opened = Opened::Ended;
                    true
                }
                Ok(ConnectionState::Closed) => {
                    opened = Opened::Ended;
                    false
                }
                Ok(state) => say(state, own),
                Err(error) => {
                    say_alert(session, own);
                    return Err(error.into());
                }
            };
            at += discard;
            if !goes_on {
                break;
            }
        }
        self.keep(&incoming[at..])?;
        Ok(opened)
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), TlsFault> {
        if rest.len() > KEPT_BYTES_MAX {
            return Err(TlsFault::MessageTooLong);
        }
        if rest.is_empty() {
            self.kept = Vec::new();
        } else {
            self.kept.clear();
            self.kept.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Appends one record with `plain` to `out`, and before it what TLS itself has to say.
    ///
    /// # Errors
    /// If the handshake is not over, or no key is left.
    ///
    /// # Panics
    /// If it is longer than [`PLAIN_BYTES_MAX`].
    pub(crate) fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsFault> {
        assert!(plain.len() <= PLAIN_BYTES_MAX);
        self.write(Some(plain), out)
    }

    /// Appends the farewell of TLS to `out`, once. Nothing may be sent afterwards.
    pub(crate) fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        let is_silent = matches!(self.state, State::Silent(_));
        if !is_silent && !mem::replace(&mut self.has_said_goodbye, true) {
            // A peer in the midst of its handshake gets none.
            let _ = self.write(None, out);
        }
    }

    /// Appends a record with `plain`, or without one the farewell.
    fn write(&mut self, plain: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), TlsFault> {
        let record_bytes = plain.map_or(0, <[u8]>::len) + OVERHEAD_BYTES_MAX;
        let session = self.state.session()?;
        loop {
            // rustls wants to see the bytes of an unfinished message again. It takes none: no record in them is whole.
            match session.process_tls_records(&mut self.kept).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return append(out, record_bytes, |out| {
                        let written = match plain {
                            Some(plain) => traffic.encrypt(plain, out),
                            None => traffic.queue_close_notify(out),
                        };
                        written.map_err(|error| match error {
                            EncryptError::InsufficientSize(short) => Some(short),
                            EncryptError::EncryptExhausted => None,
                        })
                    });
                }
                state => {
                    if !say(state, out) {
                        return Err(TlsFault::OutOfOrder);
                    }
                }
            }
        }
    }
}

type Connection<'a, 'b> = ConnectionState<'a, 'b, ServerConnectionData>;

impl State {
    fn session(&mut self) -> Result<&mut UnbufferedServerConnection, TlsFault> {
        if let Self::Silent(config) = self {
            let session = UnbufferedServerConnection::new(Shared::clone(config))?;
            *self = Self::Running(Box::new(session));
        }
        match self {
            Self::Running(session) => Ok(session),
            Self::Silent(_) => unreachable!("it was made above"),
        }
    }
}

/// Appends what rustls has to say in a state. Returns whether there may be more.
fn say(state: Connection<'_, '_>, own: &mut Vec<u8>) -> bool {
    match state {
        ConnectionState::EncodeTlsData(mut message) => {
            let encoded = append(own, OVERHEAD_BYTES_MAX, |out| match message.encode(out) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(short)) => Err(Some(short)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            });
            assert!(encoded.is_ok(), "each message is encoded once");
            true
        }
        ConnectionState::TransmitTlsData(message) => {
            message.done();
            true
        }
        _ => false,
    }
}

/// Appends the alert about a fault that the peer has just made.
fn say_alert(session: &mut UnbufferedServerConnection, own: &mut Vec<u8>) {
    loop {
        let has_said = session.process_tls_records(&mut []).state.is_ok_and(|state| say(state, own));
        if !has_said {
            return;
        }
    }
}

/// Lets `write` append to `out`: `bytes` at first, or as many as it then asks for. An error without a number is final.
fn append(
    out: &mut Vec<u8>,
    mut bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), TlsFault> {
    let before = out.len();
    loop {
        out.resize(before + bytes, 0);
        match write(&mut out[before..]) {
            Ok(written) => {
                out.truncate(before + written);
                return Ok(());
            }
            Err(Some(short)) if short.required_size > bytes => bytes = short.required_size,
            Err(_) => {
                out.truncate(before);
                return Err(TlsFault::KeysUsedUp);
            }
        }
    }
}
