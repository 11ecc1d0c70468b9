//! Notices: facts about connections that the host may log. Nothing follows from them.
//!
//! Invariant: each connection that was accepted has one [`Notice::Ended`], except one that was handed over, whose notice
//! comes from the shard that took it.

use alloc::boxed::Box;

use wire::ProtocolVersion;

use crate::base::ids::ConnectionId;
use crate::cause::Cause;

/// Bytes of a client identifier that a notice carries, at most: more than a log line shows.
pub const NOTICE_TEXT_BYTES_MAX: usize = 300;

/// A fact about a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A client was let in.
    Connected {
        /// Its connection.
        connection: ConnectionId,
        /// Its identifier, assigned or its own, cut to [`NOTICE_TEXT_BYTES_MAX`].
        client_id: Box<str>,
        /// The user that it was judged to be, cut to the same length; `None` for nobody.
        user: Option<Box<str>>,
        /// The version that it speaks.
        version: ProtocolVersion,
        /// The keep alive in force, in seconds; 0: none.
        keep_alive_s: u16,
        /// Clean start, or clean session.
        clean_start: bool,
        /// It has found its session again.
        resumed: bool,
    },
    /// A connection has ended: its session is let go, and its last bytes are on their way.
    Ended {
        /// The connection.
        connection: ConnectionId,
        /// The identifier of its client, cut to [`NOTICE_TEXT_BYTES_MAX`]; `None` if no CONNECT could be read.
        client_id: Option<Box<str>>,
        /// The user of a client that was let in, or else the user name of its CONNECT, cut to the same length; `None` without one.
        user: Option<Box<str>>,
        /// Whether its client was let in before.
        was_let_in: bool,
        /// Why it ended.
        cause: Cause,
        /// Packets that came from the client on this connection.
        packets_received: u32,
    },
}

/// A publish that visited many nodes of the topic tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LongMatch {
    /// The identifier of the client that published, cut to [`NOTICE_TEXT_BYTES_MAX`]; "" if it has left.
    pub client_id: Box<str>,
    /// The topic, cut to the same length.
    pub topic: Box<str>,
    /// Nodes visited. Long labels count as several.
    pub nodes_visited: u32,
}

/// The beginning of a text of a client, as far as a notice carries it.
pub(crate) fn cut(text: &str) -> Box<str> {
    let end = (0..=NOTICE_TEXT_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    let cut = &text[..end.unwrap_or(0)];
    assert!(cut.len() <= NOTICE_TEXT_BYTES_MAX);
    cut.into()
}
