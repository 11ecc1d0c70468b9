//! How far a connection has come, and what follows from it for the packets that it may send.

use crate::base::ids::SessionId;

/// Type and flags of a CONNECT.
const CONNECT_FIRST_BYTE: u8 = 0x10;
/// The decision of the host about a connection it accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Serve it.
    Serve,
    /// The process is full: read its CONNECT to learn its version, tell it 0x97 and close.
    TurnAway,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Its first packet has to be CONNECT [MQTT-3.1.0-1].
    Fresh(Admission),
    /// CONNECT named a method of authentication, and the exchange goes on; nothing of CONNECT counts yet.
    Authenticating,
    /// The host judges CONNECT; nothing of it counts yet, and nothing behind it is read.
    Judging,
    /// CONNECT was accepted; CONNACK waits at the acknowledgement gate and nothing else may be sent.
    Accepting(SessionId),
    /// CONNACK is out.
    Open(SessionId),
    /// Its session lives on another shard, which will take it over.
    HandingOver,
    /// It is sent its last bytes and closed; nothing is read any more.
    Closing,
}

impl Phase {
    /// Whether a packet that begins with `first_byte` is the first one and may not be: only CONNECT may [MQTT-3.1.0-1].
    pub(crate) fn is_wrong_first_packet(self, first_byte: u8) -> bool {
        matches!(self, Self::Fresh(_)) && first_byte != CONNECT_FIRST_BYTE
    }
}
