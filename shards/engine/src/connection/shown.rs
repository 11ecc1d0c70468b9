//! The facts about a connection that an operator is shown.

use super::Connection;

/// Milliseconds of silence that are allowed for each second of the keep alive [MQTT-3.1.2-22].
pub(super) const SILENCE_MS_PER_S: u32 = 1_500;

impl Connection {
    /// The keep alive in force, in seconds; 0: none.
    pub(crate) fn keep_alive_s(&self) -> u16 {
        u16::try_from(self.silence_ms_max / SILENCE_MS_PER_S).unwrap_or(u16::MAX)
    }

    /// Whether a packet of its client has come in part.
    pub(crate) fn has_partial_packet(&self) -> bool {
        self.partial_packet.is_some()
    }

    /// Bytes that wait in its outbox.
    pub(crate) fn outbox_bytes(&self) -> u64 {
        self.outbox.bytes()
    }
}
