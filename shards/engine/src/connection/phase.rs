//! How far a connection has come, and what follows from it for the packets that it may send.

use crate::base::ids::SessionId;
use crate::cause::Cause;

/// Type and flags of a CONNECT.
const CONNECT_FIRST_BYTE: u8 = 0x10;
/// The decision of the host about a connection it accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Serve it.
    Serve,
    /// Read its CONNECT to learn its version, tell it the reason and close.
    TurnAway(Refused),
}

/// The reason to turn a connection away before its CONNECT is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The process is full: 0x97.
    Full,
    /// Its address has too many connections: 0x9F.
    AddressConnections,
    /// Its address connects too often: 0x9F.
    AddressRate,
    /// Its address is banned: 0x8A.
    AddressBanned,
}

impl Refused {
    /// The cause of the end of such a connection.
    #[must_use]
    pub const fn cause(self) -> Cause {
        match self {
            Self::Full => Cause::TooManyConnections,
            Self::AddressConnections => Cause::AddressConnections,
            Self::AddressRate => Cause::AddressRate,
            Self::AddressBanned => Cause::Banned,
        }
    }
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
