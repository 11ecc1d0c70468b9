//! Reasons for the end of a connection: the codes of Close frames, and a peer's violations of RFC 6455 with the code that
//! answers each.

use core::fmt;

/// The code of a Close frame that may travel (RFC 6455, section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The connection has fulfilled its purpose.
    pub const NORMAL: Self = Self(1000);
    /// The server stops, or the page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer violates the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A frame of a type that is not accepted, such as text.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Text that is not UTF-8.
    pub const INVALID_TEXT: Self = Self(1007);
    /// The peer violates a policy.
    pub const POLICY: Self = Self(1008);
    /// A frame that is too long.
    pub const TOO_LONG: Self = Self(1009);

    /// A code that a peer sent; `None` if it may not travel.
    pub(crate) fn received(code: u16) -> Option<Self> {
        // 1004 to 1006 and 1015 are reserved, 1016 to 2999 for later versions; registered and private ones begin at 3000.
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The peer's violation that ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame of a client without a mask (section 5.1).
    Unmasked,
    /// A reserved bit, though no extension was agreed upon (section 5.2).
    ReservedBits,
    /// A type of frame that has no meaning (section 5.2).
    ReservedType,
    /// A control frame in fragments (section 5.5).
    FragmentedControl,
    /// A control frame with more than 125 bytes of payload (section 5.5).
    LongControl,
    /// A continuation without a message that it continues (section 5.4).
    NothingToContinue,
    /// A new message before the last one has ended (section 5.4).
    UnfinishedMessage,
    /// A length in more bytes than it needs, or above 2⁶³ (section 5.2).
    MalformedLength,
    /// A Close frame with one byte of payload, or a code that may not travel (sections 5.5.1 and 7.4).
    MalformedClose,
    /// The reason in a Close frame is not UTF-8 (section 5.5.1).
    CloseReasonNotUtf8,
    /// A text frame where binary ones alone are accepted [MQTT-6.0.0-1].
    Text,
    /// A frame that is longer than [`Rules::frame_bytes_max`](crate::Rules::frame_bytes_max).
    LongFrame,
}

impl Violation {
    /// Every violation.
    pub const ALL: [Self; 12] = [
        Self::Unmasked,
        Self::ReservedBits,
        Self::ReservedType,
        Self::FragmentedControl,
        Self::LongControl,
        Self::NothingToContinue,
        Self::UnfinishedMessage,
        Self::MalformedLength,
        Self::MalformedClose,
        Self::CloseReasonNotUtf8,
        Self::Text,
        Self::LongFrame,
    ];

    /// The code that the peer is told.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Unmasked
            | Self::ReservedBits
            | Self::ReservedType
            | Self::FragmentedControl
            | Self::LongControl
            | Self::NothingToContinue
            | Self::UnfinishedMessage
            | Self::MalformedLength
            | Self::MalformedClose => CloseCode::PROTOCOL_ERROR,
            Self::CloseReasonNotUtf8 => CloseCode::INVALID_TEXT,
            Self::Text => CloseCode::UNSUPPORTED,
            Self::LongFrame => CloseCode::TOO_LONG,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unmasked => "a frame without a mask",
            Self::ReservedBits => "a frame with a reserved bit",
            Self::ReservedType => "a frame of a reserved type",
            Self::FragmentedControl => "a control frame in fragments",
            Self::LongControl => "a control frame of more than 125 bytes",
            Self::NothingToContinue => "a continuation of no message",
            Self::UnfinishedMessage => "a new message before the end of the last",
            Self::MalformedLength => "a malformed length",
            Self::MalformedClose => "a malformed Close frame",
            Self::CloseReasonNotUtf8 => "a Close frame whose reason is not UTF-8",
            Self::Text => "a text frame",
            Self::LongFrame => "a frame that is too long",
        })
    }
}

impl core::error::Error for Violation {}
