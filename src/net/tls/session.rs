//! The TLS state of one connection, on the interface of rustls that has no buffers.
//!
//! Invariants:
//! - Every record that came is taken out at once, so no plaintext waits where no event would tell of it.
//! - Bytes kept between two receives are less than a record, or less than a handshake message that has a bound.
//! - The state of rustls is made with the first byte: a silent connection costs nothing of it.

use std::fmt;
use std::mem;

use rustls::HandshakeKind;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

use super::certificate::PeerCertificate;
use super::handshakes::HandshakeEnd;
use super::{ListenerTls, Shared};

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
    listener: Shared<ListenerTls>,
    session: Session,
    /// Received bytes that are no whole record, or no whole message of the handshake. The bytes of a message are decrypted, as rustls
    /// left them.
    kept: Vec<u8>,
    has_said_goodbye: bool,
}

enum Session {
    /// Nothing was received.
    Silent,
    Running(Box<UnbufferedServerConnection>),
    /// The peer was at fault.
    Failed,
}

/// The reason why TLS ended. The peer was at fault, or its bytes were changed on their way.
#[derive(Debug)]
pub(crate) enum TlsFault {
    Refused(rustls::Error),
    /// A message of the handshake is longer than anything that a client has to say.
    MessageTooLong,
    /// The keys are used up; TLS 1.2 has no new ones for a connection.
    KeysUsedUp,
    /// The handshake goes on.
    NotOpen,
    /// The client has no certificate.
    NoCertificate,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(formatter),
            Self::MessageTooLong => {
                write!(formatter, "a handshake message is longer than {KEPT_BYTES_MAX} bytes")
            }
            Self::KeysUsedUp => formatter.write_str("the connection has sent all that its keys may protect"),
            Self::NotOpen => formatter.write_str("the handshake is not over"),
            Self::NoCertificate => formatter.write_str("the client has no certificate"),
        }
    }
}

impl std::error::Error for TlsFault {}

impl From<rustls::Error> for TlsFault {
    fn from(error: rustls::Error) -> Self {
        Self::Refused(error)
    }
}

/// The result of received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// More may come.
    GoesOn,
    /// The peer has said that it sends no more.
    Ended,
}

impl Tls {
    /// A connection from which nothing has come.
    pub(crate) fn new(listener: Shared<ListenerTls>) -> Self {
        Self { listener, session: Session::Silent, kept: Vec::new(), has_said_goodbye: false }
    }

    /// Its listener, which counts handshakes.
    pub(crate) fn listener(&self) -> Shared<ListenerTls> {
        Shared::clone(&self.listener)
    }

    /// Whether the next bytes belong to the handshake, which costs more than all that follows.
    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.session {
            Session::Silent => true,
            Session::Running(session) => session.is_handshaking(),
            Session::Failed => false,
        }
    }

    /// The names in the certificate of the client, which was verified; `None` without one.
    pub(crate) fn peer_certificate(&self) -> Option<PeerCertificate> {
        let Session::Running(session) = &self.session else { return None };
        let certificate = session.peer_certificates()?.first()?;
        Some(PeerCertificate::of(certificate, self.listener.config().username_from))
    }

    /// Whether a certificate of the client is revoked now.
    pub(crate) fn is_revoked(&self) -> bool {
        let Session::Running(session) = &self.session else { return false };
        let revoked = self.listener.revoked();
        !revoked.is_empty()
            && session.peer_certificates().is_some_and(|chain| chain.iter().any(|it| revoked.include(it)))
    }

    /// Bytes that it holds beside itself.
    pub(crate) fn held_bytes(&self) -> usize {
        let session_bytes = match self.session {
            Session::Running(_) => SESSION_BYTES,
            Session::Silent | Session::Failed => 0,
        };
        session_bytes + self.kept.capacity()
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
    /// If the peer is at fault. `own` then ends with an alert that tells it so, and nothing more can be sent or received.
    pub(crate) fn receive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        own: &mut Vec<u8>,
    ) -> Result<Opened, TlsFault> {
        let was_handshaking = self.is_handshaking();
        let received = match &mut self.session {
            Session::Silent => open(&self.listener).and_then(|session| {
                self.session = Session::Running(session);
                self.session.running()
            }),
            session => session.running(),
        };
        let received = received.and_then(|session| process(session, incoming, plain, own));
        let opened = self.finish_receive(received, was_handshaking, incoming);
        if was_handshaking {
            self.count_handshake(opened.is_err());
        }
        opened
    }

    fn finish_receive(
        &mut self,
        received: Result<(usize, Opened), TlsFault>,
        was_handshaking: bool,
        incoming: &[u8],
    ) -> Result<Opened, TlsFault> {
        let (taken, opened) = received.inspect_err(|_| self.fail())?;
        if was_handshaking && !self.is_handshaking() && self.lacks_certificate() {
            self.fail();
            return Err(TlsFault::NoCertificate);
        }
        self.keep(&incoming[taken..]).inspect_err(|_| self.fail())?;
        Ok(opened)
    }

    /// Counts a handshake that has ended in this receive.
    fn count_handshake(&self, has_failed: bool) {
        let end = match &self.session {
            _ if has_failed => HandshakeEnd::Failed,
            Session::Running(session) if !session.is_handshaking() => match session.handshake_kind() {
                Some(HandshakeKind::Resumed) => HandshakeEnd::Resumed,
                Some(_) | None => HandshakeEnd::Full,
            },
            Session::Silent | Session::Running(_) | Session::Failed => return,
        };
        self.listener.count_handshake(end);
    }

    /// Gives the state of rustls up. It refers to bytes that were not kept.
    fn fail(&mut self) {
        self.session = Session::Failed;
        self.kept = Vec::new();
    }

    fn lacks_certificate(&self) -> bool {
        self.listener.requires_certificate() && self.peer_certificate().is_none()
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
        if !mem::replace(&mut self.has_said_goodbye, true) {
            // A peer in the midst of its handshake, or at fault, gets none.
            let _ = self.write(None, out);
        }
    }

    /// Appends a record with `plain`, or without one the farewell.
    fn write(&mut self, plain: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), TlsFault> {
        let record_bytes = plain.map_or(0, <[u8]>::len) + OVERHEAD_BYTES_MAX;
        let session = self.session.running()?;
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
                        return Err(TlsFault::NotOpen);
                    }
                }
            }
        }
    }
}

type Connection<'a, 'b> = ConnectionState<'a, 'b, ServerConnectionData>;

impl Session {
    fn running(&mut self) -> Result<&mut UnbufferedServerConnection, TlsFault> {
        match self {
            Self::Running(session) => Ok(session),
            Self::Silent | Self::Failed => Err(TlsFault::NotOpen),
        }
    }
}

/// The state of rustls, which begins with the first byte.
fn open(listener: &ListenerTls) -> Result<Box<UnbufferedServerConnection>, TlsFault> {
    Ok(Box::new(UnbufferedServerConnection::new(listener.current())?))
}

/// Takes every record of `incoming`. Returns the bytes that are not needed again.
fn process(
    session: &mut UnbufferedServerConnection,
    incoming: &mut [u8],
    plain: &mut Vec<u8>,
    own: &mut Vec<u8>,
) -> Result<(usize, Opened), TlsFault> {
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
                // An alert is not answered.
                if !matches!(error, rustls::Error::AlertReceived(_)) {
                    say_alert(session, &mut incoming[at + discard..], own);
                }
                return Err(error.into());
            }
        };
        at += discard;
        if !goes_on {
            return Ok((at, opened));
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

/// Appends everything up to the alert about a fault that the peer has just made. `rest` is the part of its bytes that rustls may refer
/// to. After the alert rustls would go on to read, and panic at a second fault.
fn say_alert(session: &mut UnbufferedServerConnection, rest: &mut [u8], own: &mut Vec<u8>) {
    loop {
        let before = own.len();
        match session.process_tls_records(rest).state {
            Ok(message @ ConnectionState::EncodeTlsData(_)) => say(message, own),
            Ok(_) | Err(_) => return,
        };
        if is_alert(&own[before..]) {
            return;
        }
    }
}

/// Whether a record is an alert: by its type, or where that is encrypted by its length, which no other has.
fn is_alert(record: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const ENCRYPTED: u8 = 23;
    const ENCRYPTED_ALERT_BYTES: usize = 5 + 2 + 1 + 16;
    match record.first() {
        Some(&ENCRYPTED) => record.len() == ENCRYPTED_ALERT_BYTES,
        first => first == Some(&ALERT),
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
